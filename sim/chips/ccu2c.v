// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// The ECP5's carry cell, after yosys' model of it: two bits of sum = LUT4 ^ carry in, carry out = LUT4 ? carry in : LUT2,
// where the LUT2 is the LUT4's lowest quarter.

module CCU2C(input CIN, A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT);
  parameter [15:0] INIT0 = 0, INIT1 = 0;
  parameter INJECT1_0 = "YES", INJECT1_1 = "YES";
  if (INJECT1_0 != "YES" && INJECT1_0 != "NO") $error("CCU2C: INJECT1_0 is neither YES nor NO");
  if (INJECT1_1 != "YES" && INJECT1_1 != "NO") $error("CCU2C: INJECT1_1 is neither YES nor NO");
  wire p0 = INIT0[{D0, C0, B0, A0}], p1 = INIT1[{D1, C1, B1, A1}];
  wire middle = p0 ? CIN : (INJECT1_0 == "NO" && INIT0[{2'b00, B0, A0}]);
  assign S0 = p0 ^ (INJECT1_0 == "NO" && CIN);
  assign S1 = p1 ^ (INJECT1_1 == "NO" && middle);
  assign COUT = p1 ? middle : (INJECT1_1 == "NO" && INIT1[{2'b00, B1, A1}]);
endmodule
