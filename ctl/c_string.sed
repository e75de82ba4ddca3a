# SPDX-License-Identifier: BSD-3-Clause
# Turns a text file into a C string literal.
s/\\/\\\\/g
s/"/\\"/g
s/^/"/
s/$/\\n"/
