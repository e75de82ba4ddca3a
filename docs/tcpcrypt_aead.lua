-- SPDX-License-Identifier: BSD-3-Clause
-- AES-GCM and ChaCha20-Poly1305 (NIST SP 800-38D, RFC 8439) in Lua alone, to open frames.
--
-- For tcpcrypt.lua: Wireshark's Lua has no ciphers of its own in Debian's versions. Made for
-- captures, about half a megabyte a second; it wipes nothing and takes no care of timing.
-- Lua 5.2 with bit32, LuaJIT's bit, and 5.3 and later.
--
-- open(aead, key, nonce, ad, text): aead is the identifier of RFC 8548 7, the rest strings.
-- Return: the plaintext; nil when the tag does not fit.

local bits = rawget(_G, "bit32")
if not bits then
    -- Not in the syntax of Lua 5.2, so it is compiled only where it is needed.
    bits = assert(load([[
        local b = {}
        function b.band(x, y) return x & y end
        function b.bxor(x, ...)
            for i = 1, select("#", ...) do x = x ~ (select(i, ...)) end
            return x & 0xffffffff
        end
        function b.lshift(x, n) return (x << n) & 0xffffffff end
        function b.rshift(x, n) return (x & 0xffffffff) >> n end
        function b.lrotate(x, n) x = x & 0xffffffff; return ((x << n) | (x >> (32 - n))) & 0xffffffff end
        return b]]))()
end
local band, bxor = bits.band, bits.bxor
local lshift, rshift, lrotate = bits.lshift, bits.rshift, bits.lrotate
local byte, char, sub, rep, concat = string.byte, string.char, string.sub, string.rep, table.concat
local floor = math.floor

local function be32(s, i)
    local a, b, c, d = byte(s, i, i + 3)
    return a * 16777216 + b * 65536 + c * 256 + d
end

local function le32(s, i)
    local a, b, c, d = byte(s, i, i + 3)
    return d * 16777216 + c * 65536 + b * 256 + a
end

local function put_be32(x)
    return char(band(rshift(x, 24), 255), band(rshift(x, 16), 255), band(rshift(x, 8), 255),
                band(x, 255))
end

local function put_le32(x)
    return char(band(x, 255), band(rshift(x, 8), 255), band(rshift(x, 16), 255),
                band(rshift(x, 24), 255))
end

-- XORs two strings, as long as the shorter one.
local function xor_text(a, b)
    local out = {}
    local len = #a < #b and #a or #b
    for i = 1, len, 8 do
        local n = i + 7 <= len and 7 or len - i
        local x, y = {byte(a, i, i + n)}, {byte(b, i, i + n)}
        for j = 1, n + 1 do
            x[j] = bxor(x[j], y[j])
        end
        out[#out + 1] = char((table.unpack or unpack)(x, 1, n + 1))
    end
    return concat(out)
end

-- --- AES, FIPS 197 --------------------------------------------------------------

local sbox, t0, t1, t2, t3 = {}, {}, {}, {}, {}

local function double(x)
    x = x * 2
    return x > 255 and bxor(x, 0x11b) or x
end

do
    -- Powers of the generator 3, and so inverses.
    local log, exp, x = {}, {}, 1
    for i = 0, 254 do
        exp[i], log[x] = x, i
        x = bxor(x, double(x))
    end
    for i = 0, 255 do
        local inv = i == 0 and 0 or exp[(255 - log[i]) % 255]
        local s = bxor(inv, 0x63)
        for shift = 1, 4 do
            s = bxor(s, band(lshift(inv, shift), 255), rshift(inv, 8 - shift))
        end
        sbox[i] = s
        local s2 = double(s)
        local s3 = bxor(s2, s)
        t0[i] = s2 * 16777216 + s * 65536 + s * 256 + s3
        t1[i] = s3 * 16777216 + s2 * 65536 + s * 256 + s
        t2[i] = s * 16777216 + s3 * 65536 + s2 * 256 + s
        t3[i] = s * 16777216 + s * 65536 + s3 * 256 + s2
    end
end

local function sub_word(w)
    return sbox[rshift(w, 24)] * 16777216 + sbox[band(rshift(w, 16), 255)] * 65536 +
           sbox[band(rshift(w, 8), 255)] * 256 + sbox[band(w, 255)]
end

local function aes_expand(key)
    local nk = #key / 4
    local w, rcon = {}, 1
    for i = 0, nk - 1 do
        w[i] = be32(key, 4 * i + 1)
    end
    for i = nk, 4 * (nk + 7) - 1 do
        local t = w[i - 1]
        if i % nk == 0 then
            t = bxor(sub_word(lrotate(t, 8)), lshift(rcon, 24))
            rcon = double(rcon)
        elseif nk > 6 and i % nk == 4 then
            t = sub_word(t)
        end
        w[i] = bxor(w[i - nk], t)
    end
    return {w = w, rounds = nk + 6}
end

-- Four words in, four out.
local function aes_encrypt(key, a, b, c, d)
    local w = key.w
    a, b, c, d = bxor(a, w[0]), bxor(b, w[1]), bxor(c, w[2]), bxor(d, w[3])
    for r = 1, key.rounds - 1 do
        local k = 4 * r
        local e = bxor(t0[rshift(a, 24)], t1[band(rshift(b, 16), 255)],
                       t2[band(rshift(c, 8), 255)], t3[band(d, 255)], w[k])
        local f = bxor(t0[rshift(b, 24)], t1[band(rshift(c, 16), 255)],
                       t2[band(rshift(d, 8), 255)], t3[band(a, 255)], w[k + 1])
        local g = bxor(t0[rshift(c, 24)], t1[band(rshift(d, 16), 255)],
                       t2[band(rshift(a, 8), 255)], t3[band(b, 255)], w[k + 2])
        d = bxor(t0[rshift(d, 24)], t1[band(rshift(a, 16), 255)],
                 t2[band(rshift(b, 8), 255)], t3[band(c, 255)], w[k + 3])
        a, b, c = e, f, g
    end
    local function last(p, q, r, s, k)
        return bxor(sbox[rshift(p, 24)] * 16777216 + sbox[band(rshift(q, 16), 255)] * 65536 +
                    sbox[band(rshift(r, 8), 255)] * 256 + sbox[band(s, 255)], k)
    end
    local k = 4 * key.rounds
    return last(a, b, c, d, w[k]), last(b, c, d, a, w[k + 1]), last(c, d, a, b, w[k + 2]),
           last(d, a, b, c, w[k + 3])
end

-- --- GCM ------------------------------------------------------------------------

-- Products of H with every value of each of the 32 nibbles of a block, as four words.
local function ghash_tables(h0, h1, h2, h3)
    local tables = {}
    for pos = 0, 31 do
        local p = {}
        for bit = 0, 3 do -- H times x^(4 pos + bit)
            p[bit] = {h0, h1, h2, h3}
            local low = band(h3, 1)
            h3 = bxor(rshift(h3, 1), lshift(band(h2, 1), 31))
            h2 = bxor(rshift(h2, 1), lshift(band(h1, 1), 31))
            h1 = bxor(rshift(h1, 1), lshift(band(h0, 1), 31))
            h0 = rshift(h0, 1)
            if low == 1 then
                h0 = bxor(h0, 0xe1000000)
            end
        end
        local t = {[0] = {0, 0, 0, 0}}
        for v = 1, 15 do
            local e = {0, 0, 0, 0}
            for bit = 0, 3 do
                if band(v, rshift(8, bit)) ~= 0 then
                    for i = 1, 4 do
                        e[i] = bxor(e[i], p[bit][i])
                    end
                end
            end
            t[v] = e
        end
        tables[pos] = t
    end
    return tables
end

local function ghash(tables, data)
    local y0, y1, y2, y3 = 0, 0, 0, 0
    for i = 1, #data, 16 do
        local x = {bxor(y0, be32(data, i)), bxor(y1, be32(data, i + 4)),
                   bxor(y2, be32(data, i + 8)), bxor(y3, be32(data, i + 12))}
        y0, y1, y2, y3 = 0, 0, 0, 0
        for word = 1, 4 do
            local w, pos = x[word], 8 * (word - 1)
            for nibble = 0, 7 do
                local e = tables[pos + nibble][band(rshift(w, 28 - 4 * nibble), 15)]
                y0, y1, y2, y3 = bxor(y0, e[1]), bxor(y1, e[2]), bxor(y2, e[3]), bxor(y3, e[4])
            end
        end
    end
    return put_be32(y0) .. put_be32(y1) .. put_be32(y2) .. put_be32(y3)
end

local function pad16(s)
    return s .. rep("\0", -#s % 16)
end

local function len64(n)
    return put_be32(floor(n * 8 / 4294967296)) .. put_be32(n * 8 % 4294967296)
end

local gcm_keys = setmetatable({}, {__mode = "v"})

local function gcm_key(key)
    local k = gcm_keys[key]
    if not k then
        k = aes_expand(key)
        k.tables = ghash_tables(aes_encrypt(k, 0, 0, 0, 0))
        gcm_keys[key] = k
    end
    return k
end

local function gcm_stream(k, nonce, counter, len)
    local out = {}
    local a, b, c = be32(nonce, 1), be32(nonce, 5), be32(nonce, 9)
    for _ = 1, len, 16 do
        local p, q, r, s = aes_encrypt(k, a, b, c, counter)
        out[#out + 1] = put_be32(p) .. put_be32(q) .. put_be32(r) .. put_be32(s)
        counter = (counter + 1) % 4294967296
    end
    return concat(out)
end

local function gcm_open(key, nonce, ad, text, tag)
    local k = gcm_key(key)
    local sum = ghash(k.tables, pad16(ad) .. pad16(text) .. len64(#ad) .. len64(#text))
    if xor_text(sum, gcm_stream(k, nonce, 1, 16)) ~= tag then
        return nil
    end
    return xor_text(text, gcm_stream(k, nonce, 2, #text))
end

-- --- ChaCha20-Poly1305, RFC 8439 -------------------------------------------------

local function quarter(s, a, b, c, d)
    s[a] = (s[a] + s[b]) % 4294967296
    s[d] = lrotate(bxor(s[d], s[a]), 16)
    s[c] = (s[c] + s[d]) % 4294967296
    s[b] = lrotate(bxor(s[b], s[c]), 12)
    s[a] = (s[a] + s[b]) % 4294967296
    s[d] = lrotate(bxor(s[d], s[a]), 8)
    s[c] = (s[c] + s[d]) % 4294967296
    s[b] = lrotate(bxor(s[b], s[c]), 7)
end

local function chacha_block(key, counter, nonce)
    local first = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}
    for i = 0, 7 do
        first[5 + i] = le32(key, 4 * i + 1)
    end
    first[13] = counter
    for i = 0, 2 do
        first[14 + i] = le32(nonce, 4 * i + 1)
    end
    local s = {}
    for i = 1, 16 do
        s[i] = first[i]
    end
    for _ = 1, 10 do
        quarter(s, 1, 5, 9, 13)
        quarter(s, 2, 6, 10, 14)
        quarter(s, 3, 7, 11, 15)
        quarter(s, 4, 8, 12, 16)
        quarter(s, 1, 6, 11, 16)
        quarter(s, 2, 7, 12, 13)
        quarter(s, 3, 8, 9, 14)
        quarter(s, 4, 5, 10, 15)
    end
    for i = 1, 16 do
        s[i] = put_le32((s[i] + first[i]) % 4294967296)
    end
    return concat(s)
end

-- Numbers below 2^130 as ten limbs of 13 bits: products stay exact in a double.
local function limbs(s)
    local out, acc, have = {}, 0, 0
    for i = 1, #s do
        acc = acc + byte(s, i) * 2 ^ have
        have = have + 8
        if have >= 13 then
            out[#out + 1] = acc % 8192
            acc = floor(acc / 8192)
            have = have - 13
        end
    end
    out[#out + 1] = acc
    for i = #out + 1, 10 do
        out[i] = 0
    end
    return out
end

local function carry(h)
    for _ = 1, 2 do
        local c = 0
        for i = 1, 10 do
            local v = h[i] + c
            h[i] = v % 8192
            c = floor(v / 8192)
        end
        h[1] = h[1] + 5 * c
    end
end

-- r loses the bits that RFC 8439 2.5 names.
local function clamp(r)
    local b = {byte(r, 1, 16)}
    for _, i in ipairs({4, 8, 12, 16}) do
        b[i] = band(b[i], 15)
    end
    for _, i in ipairs({5, 9, 13}) do
        b[i] = band(b[i], 252)
    end
    return char((table.unpack or unpack)(b))
end

-- h modulo 2^130 - 5, plus s modulo 2^128, as 16 bytes.
local function poly_finish(h, s)
    carry(h)
    local g = {}
    local c = 5
    for i = 1, 10 do
        local v = h[i] + c
        g[i] = v % 8192
        c = floor(v / 8192)
    end
    if c > 0 then -- h was at least 2^130 - 5
        h = g
    end
    local add, out = limbs(s), {}
    local acc, have
    c, acc, have = 0, 0, 0
    for i = 1, 10 do
        local v = h[i] + add[i] + c
        c = floor(v / 8192)
        acc = acc + (v % 8192) * 2 ^ have
        have = have + 13
        while have >= 8 and #out < 16 do
            out[#out + 1] = char(floor(acc % 256))
            acc = floor(acc / 256)
            have = have - 8
        end
    end
    return concat(out)
end

local function poly1305(key, data)
    local r, h = limbs(clamp(sub(key, 1, 16))), {0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
    for i = 1, #data, 16 do
        local m = limbs(sub(data, i, i + 15) .. "\1")
        local product = {}
        for k = 1, 10 do
            h[k] = h[k] + m[k]
        end
        for k = 1, 10 do
            local v = 0
            for j = 1, 10 do
                if j <= k then
                    v = v + h[j] * r[k - j + 1]
                else
                    v = v + 5 * h[j] * r[k - j + 11]
                end
            end
            product[k] = v
        end
        h = product
        carry(h)
    end
    return poly_finish(h, sub(key, 17, 32))
end

local function len64_le(n)
    return put_le32(n % 4294967296) .. put_le32(floor(n / 4294967296))
end

local function chacha_open(key, nonce, ad, text, tag)
    local sum = poly1305(sub(chacha_block(key, 0, nonce), 1, 32),
                         pad16(ad) .. pad16(text) .. len64_le(#ad) .. len64_le(#text))
    if sum ~= tag then
        return nil
    end
    local out, counter = {}, 1
    for i = 1, #text, 64 do
        out[#out + 1] = xor_text(sub(text, i, i + 63), chacha_block(key, counter, nonce))
        counter = counter + 1
    end
    return concat(out)
end

-- --- The one entrance -------------------------------------------------------------

local M = {}

local ciphers = {
    [0x0001] = {open = gcm_open, key_len = 16},
    [0x0002] = {open = gcm_open, key_len = 32},
    [0x0010] = {open = chacha_open, key_len = 32},
}

function M.open(aead, key, nonce, ad, text)
    local c = ciphers[aead]
    if not c or #key ~= c.key_len or #nonce ~= 12 or #text < 16 then
        return nil
    end
    return c.open(key, nonce, ad, sub(text, 1, -17), sub(text, -16))
end

-- XORs the frame's offset into the nonce (RFC 8548 3.6 and 4.2.3).
function M.frame_nonce(nonce, offset)
    local id = rep("\0", #nonce - 8) .. put_be32(floor(offset / 4294967296)) ..
               put_be32(offset % 4294967296)
    return xor_text(nonce, id)
end

return M
