// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// The simulated board's end of the link: bytes from the host on one descriptor, bytes to it on another.

#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include <vector>

class Pipe {
public:
    explicit Pipe(int in = 0, int out = 1) : in_fd_(in), out_fd_(out) {
        // A write to a pipe that is nearly full sends what fits, and the wait for the rest is a poll that watches both ends.
        fcntl(out_fd_, F_SETFL, fcntl(out_fd_, F_GETFL) | O_NONBLOCK);
    }

    // Takes what the host has sent, and sends all that was put.  With `wait`, returns with a byte from the host at least.
    // False as soon as the host has closed either end, whatever is pending in either direction.
    bool exchange(bool wait) {
        for (;;) {
            const bool block = !out_.empty() || (wait && taken_.empty());
            pollfd ends[2] = {{in_fd_, POLLIN, 0}, {out_fd_, short(out_.empty() ? 0 : POLLOUT), 0}};
            const int ready = poll(ends, 2, block ? -1 : 0);
            if (ready < 0 && errno != EINTR && errno != EAGAIN) return false;
            if (ready > 0) {
                for (const pollfd &end : ends)
                    if (end.revents & (POLLHUP | POLLERR | POLLNVAL)) return false;
                if ((ends[0].revents & POLLIN) && !take()) return false;
                if ((ends[1].revents & POLLOUT) && !send()) return false;
            }
            if (!block) return true;
        }
    }

    bool has() const { return !taken_.empty(); }
    uint8_t front() const { return taken_.front(); }
    void pop() { taken_.pop_front(); }
    void put(uint8_t byte) { out_.push_back(byte); }

private:
    bool take() {
        uint8_t buffer[65536];
        const ssize_t n = read(in_fd_, buffer, sizeof buffer);
        if (n > 0) taken_.insert(taken_.end(), buffer, buffer + n);
        return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
    }
    bool send() {
        const ssize_t n = write(out_fd_, out_.data(), out_.size());
        if (n > 0) out_.erase(out_.begin(), out_.begin() + n);
        return n >= 0 || errno == EAGAIN || errno == EINTR;
    }

    int in_fd_, out_fd_;
    std::deque<uint8_t> taken_;
    std::vector<uint8_t> out_;
};
