// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// A user of the simulated board's pipe, without a core: what test_pipe.py starts.
//
// Arguments: echo | idle | sleep | flood.  echo sends back what comes; idle takes no byte, like a core in reset; sleep waits for
// a byte and takes it; flood sends for ever.

#include <chrono>
#include <string>
#include <thread>

#include "pipe.h"

int main(int, char **argv) {
    const std::string mode = argv[1];
    Pipe pipe;
    while (pipe.exchange(mode == "echo" || mode == "sleep")) {
        if (mode == "idle") std::this_thread::sleep_for(std::chrono::milliseconds(1));
        if (mode == "flood")
            for (int i = 0; i < 1000; i++) pipe.put(uint8_t(i));
        while (pipe.has() && mode != "idle") {
            if (mode == "echo") pipe.put(pipe.front());
            pipe.pop();
        }
    }
    return 0;
}
