-- SPDX-License-Identifier: BSD-3-Clause
-- Known answers for docs/tcpcrypt_aead.lua: NIST's GCM test cases and RFC 8439; prints TAP.
-- usage: lua aead.lua FILE
local M = dofile(arg[1])

local function unhex(s)
    return (s:gsub("%s", ""):gsub("%x%x", function(h) return string.char(tonumber(h, 16)) end))
end

local GCM_KEY = unhex "feffe9928665731c6d6a8f9467308308"
local GCM_NONCE = unhex "cafebabefacedbaddecaf888"
local GCM_AD = unhex "feedfacedeadbeeffeedfacedeadbeefabaddad2"
local GCM_TEXT = unhex [[d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
                         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39]]
local cases = {
    {"GCM test case 1: nothing", 1, ("\0"):rep(16), ("\0"):rep(12), "",
     unhex "58e2fccefa7e3061367f1d57a4e7455a", ""},
    {"GCM test case 2: one block of zeros", 1, ("\0"):rep(16), ("\0"):rep(12), "",
     unhex "0388dace60b6a392f328c2b971b2fe78 ab6e47d42cec13bdf53a67b21257bddf", ("\0"):rep(16)},
    {"GCM test case 4: AES-128", 1, GCM_KEY, GCM_NONCE, GCM_AD,
     unhex [[42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
             21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091
             5bc94fbc3221a5db94fae95ae7121a47]], GCM_TEXT},
    {"GCM test case 16: AES-256", 2, GCM_KEY .. GCM_KEY, GCM_NONCE, GCM_AD,
     unhex [[522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662
             76fc6ece0f4e1768cddf8853bb2d551b]], GCM_TEXT},
    {"RFC 8439 2.8.2", 16,
     unhex "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
     unhex "070000004041424344454647", unhex "50515253c0c1c2c3c4c5c6c7",
     unhex [[d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6
             3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36
             92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc
             3ff4def08e4b7a9de576d26586cec64b6116 1ae10b594f09e26a7e902ecbd0600691]],
     "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the " ..
     "future, sunscreen would be it."},
}

local number = 0
local function ok(good, name)
    number = number + 1
    print(("%s %d - %s"):format(good and "ok" or "not ok", number, name))
end

for _, c in ipairs(cases) do
    local name, aead, key, nonce, ad, sealed, text = table.unpack(c)
    ok(M.open(aead, key, nonce, ad, sealed) == text, name)
    local fooled = false
    for i = 1, #sealed do
        local bad = sealed:sub(1, i - 1) .. string.char((sealed:byte(i) + 1) % 256) .. sealed:sub(i + 1)
        fooled = fooled or M.open(aead, key, nonce, ad, bad) ~= nil
    end
    ok(not fooled and M.open(aead, key, nonce, ad .. "x", sealed) == nil, name .. ": any other byte")
end
ok(M.open(3, GCM_KEY, GCM_NONCE, "", ("x"):rep(32)) == nil, "unknown cipher")
ok(M.open(2, GCM_KEY, GCM_NONCE, "", ("x"):rep(32)) == nil, "key of another length")
ok(M.open(1, GCM_KEY, GCM_NONCE, "", ("x"):rep(15)) == nil, "shorter than a tag")
ok(M.frame_nonce(("\255"):rep(12), 0x100000002) ==
   ("\255"):rep(4) .. "\255\255\255\254\255\255\255\253", "offset above 2^32")
print("1.." .. number)
