-- SPDX-License-Identifier: BSD-3-Clause
-- Dissector for TCP-ENO (RFC 8547) and tcpcrypt (RFC 8548), for Wireshark and tshark.
--
--   tshark -X lua_script:docs/tcpcrypt.lua -o tcpcrypt.keylog:KEYS -r FILE -V
--
-- How it works: a postdissector shows the ENO options of each segment and follows the
-- negotiation. When it ends in tcpcrypt, the connection's bytes are this file's: Init
-- messages, then frames, whose place in the stream is counted, because it is in their
-- nonce. Both SYNs must be in the capture, and no byte may lack before a frame that is to
-- be decrypted; for captures with reordering set tcp.reassemble_out_of_order.
-- Keys come from a key log (tcpcrypt-ns up --keylog), by addresses and ports; of several
-- sessions of one tuple the one whose key fits is taken. The ciphers are in
-- tcpcrypt_aead.lua, in the same folder.

local here = debug.getinfo(1, "S").source:match("^@(.*)tcpcrypt%.lua$") or ""
local aead = dofile(here .. "tcpcrypt_aead.lua")

local TEPS = {
    [0x21] = "TCPCRYPT_ECDHE_P256", [0x22] = "TCPCRYPT_ECDHE_P521",
    [0x23] = "TCPCRYPT_ECDHE_Curve25519", [0x24] = "TCPCRYPT_ECDHE_Curve448",
}
local PUBLIC_LEN = {[0x23] = 32, [0x24] = 56} -- the others have a length before them
local AEADS = {
    [0x0001] = "AEAD_AES_128_GCM", [0x0002] = "AEAD_AES_256_GCM",
    [0x0010] = "AEAD_CHACHA20_POLY1305",
}
local INIT1, INIT2 = 0x15101a0e, 0x097105e0
local HALF_LEN, NONCE_LEN, TAG_LEN = 9, 32, 16
local FIN, URG = 1, 2

local eno = Proto("tcp_eno", "TCP Encryption Negotiation Option")
local tcpcrypt = Proto("tcpcrypt", "tcpcrypt")

tcpcrypt.prefs.keylog = Pref.string("Key log", "", "File written by tcpcrypt-ns up --keylog")

local E = {
    option = ProtoField.bytes("tcp_eno.option", "Option"),
    form = ProtoField.string("tcp_eno.form", "Form"),
    global = ProtoField.uint8("tcp_eno.global", "Global suboption", base.HEX),
    zero = ProtoField.uint8("tcp_eno.global.z", "Reserved (z)", base.HEX, nil, 0x1c),
    app_aware = ProtoField.bool("tcp_eno.global.a", "Application-aware (a)", 8, nil, 0x02),
    passive = ProtoField.bool("tcp_eno.global.b", "Passive role (b)", 8, nil, 0x01),
    length = ProtoField.uint8("tcp_eno.length", "Length of the next suboption's data"),
    tep = ProtoField.uint8("tcp_eno.tep", "TEP", base.HEX, TEPS, 0x7f),
    v = ProtoField.bool("tcp_eno.v", "Data follows (v)", 8, nil, 0x80),
    data = ProtoField.bytes("tcp_eno.data", "Suboption data"),
    resume_id = ProtoField.bytes("tcp_eno.resume.id", "Half of the resumption identifier"),
    resume_nonce = ProtoField.bytes("tcp_eno.resume.nonce", "Resumption nonce"),
    ignored = ProtoField.bytes("tcp_eno.ignored", "Ignored contents"),
    result = ProtoField.string("tcp_eno.result", "Negotiation"),
}
eno.fields = E
local eno_ill_formed = ProtoExpert.new("tcp_eno.ill_formed", "Ill-formed ENO option",
                                       expert.group.MALFORMED, expert.severity.WARN)
eno.experts = {eno_ill_formed}

local F = {
    init = ProtoField.string("tcpcrypt.init", "Message"),
    magic = ProtoField.uint32("tcpcrypt.init.magic", "Magic", base.HEX),
    message_len = ProtoField.uint32("tcpcrypt.init.len", "Length"),
    nciphers = ProtoField.uint8("tcpcrypt.init.nciphers", "Number of ciphers"),
    cipher = ProtoField.uint16("tcpcrypt.init.cipher", "Cipher", base.HEX, AEADS),
    nonce = ProtoField.bytes("tcpcrypt.init.nonce", "Nonce"),
    public_len = ProtoField.uint16("tcpcrypt.init.pubkey_len", "Length of the public key"),
    public = ProtoField.bytes("tcpcrypt.init.pubkey", "Public key"),
    ignored = ProtoField.bytes("tcpcrypt.init.ignored", "Ignored"),
    control = ProtoField.uint8("tcpcrypt.frame.control", "Control", base.HEX),
    cres = ProtoField.uint8("tcpcrypt.frame.cres", "Reserved (cres)", base.HEX, nil, 0xfe),
    rekey = ProtoField.bool("tcpcrypt.frame.rekey", "Rekey", 8, nil, 0x01),
    clen = ProtoField.uint16("tcpcrypt.frame.clen", "Length of the ciphertext"),
    ciphertext = ProtoField.bytes("tcpcrypt.frame.ciphertext", "Ciphertext"),
    tag = ProtoField.bytes("tcpcrypt.frame.tag", "Tag"),
    offset = ProtoField.uint64("tcpcrypt.frame.offset", "Offset in the stream"),
    generation = ProtoField.uint32("tcpcrypt.frame.generation", "Generation of keys"),
    session = ProtoField.string("tcpcrypt.session_id", "Session id"),
    decryption = ProtoField.string("tcpcrypt.decryption", "Decryption"),
    flags = ProtoField.uint8("tcpcrypt.flags", "Flags", base.HEX),
    fres = ProtoField.uint8("tcpcrypt.flags.fres", "Reserved (fres)", base.HEX, nil, 0xfc),
    urgp = ProtoField.bool("tcpcrypt.flags.urg", "URGp", 8, nil, 0x02),
    finp = ProtoField.bool("tcpcrypt.flags.fin", "FINp", 8, nil, 0x01),
    urgent = ProtoField.uint16("tcpcrypt.urgent", "Urgent offset"),
    data = ProtoField.bytes("tcpcrypt.data", "Data"),
    text = ProtoField.string("tcpcrypt.text", "Text"),
}
tcpcrypt.fields = F
local bad_tag = ProtoExpert.new("tcpcrypt.bad_tag", "The tag does not verify",
                                expert.group.DECRYPTION, expert.severity.WARN)
local bad_message = ProtoExpert.new("tcpcrypt.malformed", "Malformed message",
                                    expert.group.MALFORMED, expert.severity.ERROR)
tcpcrypt.experts = {bad_tag, bad_message}

local f_options, f_stream = Field.new("tcp.options"), Field.new("tcp.stream")
local f_syn, f_ack = Field.new("tcp.flags.syn"), Field.new("tcp.flags.ack")
local f_ip, f_ip6 = Field.new("ip.src"), Field.new("ipv6.src")
local f_ip_dst, f_ip6_dst = Field.new("ip.dst"), Field.new("ipv6.dst")

-- --- The key log ------------------------------------------------------------------

local sessions = {} -- by direction: a list of {id, [generation] = {aead, key, nonce}}
local keylog_len = 0

local function unhex(s)
    return (s:gsub("%x%x", function(h) return string.char(tonumber(h, 16)) end))
end

local function put16(n)
    return string.char(math.floor(n / 256), n % 256)
end

-- Return: 4 or 16 bytes; nil when text is no address.
local function parse_addr(text)
    local a, b, c, d = text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
    if a then
        local largest = math.max(a, b, c, d)
        return largest < 256 and string.char(a, b, c, d) or nil
    end
    local function groups(part)
        local out = {}
        if part:match("^:") or part:match(":$") or part:match("::") then
            return nil
        end
        for g in part:gmatch("[^:]+") do
            if not g:match("^%x%x?%x?%x?$") then
                return nil
            end
            out[#out + 1] = put16(tonumber(g, 16))
        end
        return table.concat(out)
    end
    local left, right = text:match("^(.-)::(.*)$")
    local head, tail = groups(left or text), groups(right or "")
    if not head or not tail or (not left and #head ~= 16) or #head + #tail > 16 then
        return nil
    end
    return head .. ("\0"):rep(16 - #head - #tail) .. tail
end

local function direction_key(from, from_port, to, to_port)
    return from .. put16(from_port) .. to .. put16(to_port)
end

local LINE = "^TCPCRYPT_KEY (%x+) (%S+) (%d+) (%S+) (%d+) (%d+) (%x+) (%x+) (%x+)%s*$"

local function read_line(line)
    local id, from, from_port, to, to_port, generation, cipher, key, nonce = line:match(LINE)
    from, to = from and parse_addr(from), to and parse_addr(to)
    from_port, to_port = tonumber(from_port), tonumber(to_port)
    if not from or not to or from_port > 65535 or to_port > 65535 then
        return
    end
    local dir = direction_key(from, from_port, to, to_port)
    local list = sessions[dir] or {}
    sessions[dir] = list
    local session
    for _, s in ipairs(list) do
        session = s.id == id and s or session
    end
    if not session then
        session = {id = id}
        list[#list + 1] = session
    end
    session[tonumber(generation)] = {
        aead = tonumber(cipher, 16), key = unhex(key), nonce = unhex(nonce),
    }
end

-- Reads what the file has more than at the last look: captures may be live.
local function read_keylog()
    local f = tcpcrypt.prefs.keylog ~= "" and io.open(tcpcrypt.prefs.keylog, "r")
    if not f then
        return
    end
    f:seek("set", keylog_len)
    for line in f:lines() do
        read_line(line)
    end
    keylog_len = f:seek()
    f:close()
end

-- --- Connections ------------------------------------------------------------------

local streams = {} -- by tcp.stream
local records = {} -- what the first pass found out about a message, by frame and last bytes

local function init()
    streams, records, sessions, keylog_len = {}, {}, {}, 0
    read_keylog()
end
tcpcrypt.init = init

local function last_of(...)
    local found = {...}
    return found[#found]
end

local function stream_number()
    local info = last_of(f_stream())
    return info and info.value
end

-- Return: source and destination as bytes.
local function addresses()
    local from = last_of(f_ip()) or last_of(f_ip6())
    local to = last_of(f_ip_dst()) or last_of(f_ip6_dst())
    return from and from.range:bytes():raw(), to and to.range:bytes():raw()
end

-- --- TCP-ENO ----------------------------------------------------------------------

-- Takes the suboptions of a SYN apart, RFC 8547 4.1 to 4.4; add(field, range, ...) shows
-- them. Return: list of {glt, v, len}; nil when they are ill-formed.
local function suboptions(range, show)
    local teps, pos, data_len, seen_global = {}, 0, nil, false
    while pos < range:len() do
        local b = range(pos, 1):uint()
        local glt, v = b % 128, b >= 128
        if not v and glt < 0x20 then
            if data_len then
                return nil
            end
            show.global(range(pos, 1), seen_global)
            seen_global = true
            pos = pos + 1
        elseif v and glt < 0x20 then
            if data_len then
                return nil
            end
            data_len = glt + 1
            show.length(range(pos, 1), data_len)
            pos = pos + 1
        else
            if data_len and not v then
                return nil
            end
            local len = v and (data_len or range:len() - pos - 1) or 0
            if pos + 1 + len > range:len() then
                return nil
            end
            show.tep(range(pos, 1), glt, len > 0 and range(pos + 1, len))
            teps[#teps + 1] = {glt = glt, resumes = len >= HALF_LEN}
            data_len = nil
            pos = pos + 1 + len
        end
    end
    return not data_len and teps or nil
end

local function show_suboptions(tree)
    return {
        global = function(range, ignored)
            local t = tree:add(E.global, range)
            if ignored then
                t:append_text(" (ignored: not the first)")
            end
            t:add(E.zero, range)
            t:add(E.app_aware, range)
            t:add(E.passive, range)
        end,
        length = function(range, len)
            tree:add(E.length, range, len)
        end,
        tep = function(range, glt, data)
            local t = tree:add(E.tep, range)
            t:add(E.v, range)
            if data and TEPS[glt] and data:len() >= HALF_LEN then
                t:append_text(", resumption")
                t:add(E.resume_id, data(0, HALF_LEN))
                if data:len() > HALF_LEN then
                    t:add(E.resume_nonce, data(HALF_LEN))
                end
            elseif data then
                t:add(E.data, data)
            end
        end,
    }
end

-- RFC 8547 4.5: the last TEP of host B that host A has, too. The SYN-ACK's sender counts
-- as host B here, as it does unless both hosts open at once.
local function negotiate(offer, answer)
    local chosen
    for _, b in ipairs(answer) do
        for _, a in ipairs(offer) do
            if a.glt == b.glt and TEPS[a.glt] then
                chosen = {tep = a.glt, resumed = a.resumes and b.resumes}
            end
        end
    end
    return chosen
end

local function find_eno(options)
    local found, pos = {}, 0
    while pos < options:len() do
        local kind = options(pos, 1):uint()
        local len = kind == 1 and 1 or (pos + 1 < options:len() and options(pos + 1, 1):uint() or 0)
        if kind == 0 or len == 0 or pos + len > options:len() or (kind ~= 1 and len < 2) then
            break
        end
        if kind == 69 then
            found[#found + 1] = options(pos, len)
        end
        pos = pos + len
    end
    return found
end

local function show_option(tree, option, syn)
    local t = tree:add(eno, option)
    t:add(E.option, option)
    t:add(E.form, option, syn and "SYN" or "non-SYN"):set_generated()
    if option:len() == 2 then
        return t, syn and {}
    end
    local contents = option(2)
    if not syn then
        t:add(E.ignored, contents)
        return t
    end
    local teps = suboptions(contents, show_suboptions(t))
    if not teps then
        t:add_proto_expert_info(eno_ill_formed)
    end
    return t, teps
end

-- A SYN or SYN-ACK: what has become of the negotiation?
local function follow(number, teps, ack, pinfo)
    local s = streams[number]
    if not ack then
        s = s or {dirs = {}}
        streams[number] = s
        s.offer, s.chosen = teps, nil
        return nil
    end
    if not s or not s.offer then
        return nil
    end
    s.chosen = teps and negotiate(s.offer, teps)
    if not s.chosen then
        return "no tcpcrypt TEP in common"
    end
    if not pinfo.visited then
        pinfo.conversation = tcpcrypt
    end
    return ("%s, %s"):format(TEPS[s.chosen.tep], s.chosen.resumed and "resumed" or "key exchange")
end

function eno.dissector(tvb, pinfo, tree)
    local info = last_of(f_options())
    local options = info and find_eno(info.range) or {}
    if #options == 0 then
        return
    end
    local syn, ack = last_of(f_syn()).value, last_of(f_ack()).value
    local t, teps
    for _, option in ipairs(options) do
        t, teps = show_option(tree, option, syn)
    end
    if not syn then
        return
    end
    if #options > 1 then -- RFC 8547 4.1: as if there were none
        teps = nil
        t:add_proto_expert_info(eno_ill_formed, "More than one ENO option")
    end
    local result = follow(stream_number(), teps, ack, pinfo)
    if result then
        t:add(E.result, result):set_generated()
    end
end

register_postdissector(eno)

-- --- Init messages ------------------------------------------------------------------

local function show_init(range, tep, tree)
    local first = range(0, 4):uint() == INIT1
    local t = tree:add(tcpcrypt, range, first and "tcpcrypt Init1" or "tcpcrypt Init2")
    local pos, len = 8, range:len()
    local function take(n)
        local r = pos + n <= len and n > 0 and range(pos, n) or nil
        pos = pos + n
        return r
    end
    local function put(field, n)
        local r = take(n)
        if r then
            t:add(field, r)
        end
        return r
    end
    t:add(F.init, range, first and "Init1" or "Init2"):set_generated()
    t:add(F.magic, range(0, 4))
    t:add(F.message_len, range(4, 4))
    local cnt = 1
    if first then
        local r = put(F.nciphers, 1)
        cnt = r and r:uint() or 0
    end
    for _ = 1, cnt do
        put(F.cipher, 2)
    end
    put(F.nonce, NONCE_LEN)
    local public_len = PUBLIC_LEN[tep]
    if not public_len then
        local r = put(F.public_len, 2)
        public_len = r and r:uint() or 0
    end
    put(F.public, public_len)
    if pos > len then
        t:add_proto_expert_info(bad_message, "Shorter than its fields")
    elseif pos < len then
        t:add(F.ignored, range(pos))
    end
    return first and "Init1" or "Init2"
end

-- --- Frames -------------------------------------------------------------------------

local function try(session, generation, offset, raw)
    local k = session[generation]
    return k and aead.open(k.aead, k.key, aead.frame_nonce(k.nonce, offset), raw:sub(1, 3),
                           raw:sub(4))
end

-- What is to be said of a frame that comes for the first time; moves the direction on.
local function open_frame(dir, raw)
    local rekey = raw:byte(1) % 2 == 1
    local generation = dir.generation + (rekey and 1 or 0)
    local record = {offset = dir.offset, generation = generation}
    if not dir.session and not sessions[dir.key] then
        read_keylog()
    end
    local list = dir.session and {dir.session} or sessions[dir.key] or {}
    local tried
    for _, session in ipairs(list) do
        if not session[generation] then
            read_keylog()
        end
        tried = tried or session[generation] ~= nil
        record.plaintext = try(session, generation, dir.offset, raw)
        if record.plaintext then
            dir.session = session
            break
        end
    end
    record.session_id = dir.session and dir.session.id
    record.decryption = record.plaintext and "decrypted" or
        (tried and "failed: the tag does not verify; the key in the log is wrong, or bytes are missing before it"
               or "no key in the log")
    record.failed = tried and not record.plaintext
    dir.generation = generation
    dir.offset = dir.offset + #raw
    return record
end

local function printable(s)
    return (s:sub(1, 1000):gsub("[^\32-\126]", "."))
end

local function show_plaintext(plaintext, tree)
    local tvb = ByteArray.new(plaintext, true):tvb("tcpcrypt plaintext")
    local flags = tvb(0, 1):uint()
    local t = tree:add(F.flags, tvb(0, 1))
    t:add(F.fres, tvb(0, 1))
    t:add(F.urgp, tvb(0, 1))
    t:add(F.finp, tvb(0, 1))
    local pos, words = 1, {}
    if flags % 2 == FIN then
        words[1] = "FINp"
    end
    if flags % 4 >= URG then
        words[#words + 1] = "URGp"
        if tvb:len() < 3 then
            tree:add_proto_expert_info(bad_message, "Shorter than its flags say")
            return words
        end
        tree:add(F.urgent, tvb(1, 2))
        pos = 3
    end
    if tvb:len() > pos then
        tree:add(F.data, tvb(pos))
        tree:add(F.text, tvb(pos), printable(plaintext:sub(pos + 1))):set_generated()
    end
    words[#words + 1] = ("%d bytes"):format(tvb:len() - pos)
    return words
end

local function show_frame(range, record, tree)
    local t = tree:add(tcpcrypt, range, "tcpcrypt frame")
    local control = t:add(F.control, range(0, 1))
    control:add(F.cres, range(0, 1))
    control:add(F.rekey, range(0, 1))
    t:add(F.clen, range(1, 2))
    local clen = range:len() - 3
    if clen < TAG_LEN then
        t:add_proto_expert_info(bad_message, "Too short for its tag")
        return "short frame"
    end
    if clen > TAG_LEN then
        t:add(F.ciphertext, range(3, clen - TAG_LEN))
    end
    t:add(F.tag, range(range:len() - TAG_LEN))
    local words = range(0, 1):uint() % 2 == 1 and "Rekey" or "Frame"
    if not record then
        return words
    end
    t:add(F.offset, range(0, 1), UInt64(record.offset % 4294967296,
                                        math.floor(record.offset / 4294967296))):set_generated()
    t:add(F.generation, range(0, 1), record.generation):set_generated()
    if record.session_id then
        t:add(F.session, range, record.session_id):set_generated()
    end
    t:add(F.decryption, range, record.decryption):set_generated()
    if record.failed then
        t:add_proto_expert_info(bad_tag, record.decryption)
    end
    if record.plaintext and #record.plaintext > 0 then
        words = words .. " " .. table.concat(show_plaintext(record.plaintext, t), " ")
    end
    return words
end

-- --- The stream ---------------------------------------------------------------------

-- The message at pos: its length, or nil and how many bytes are needed to know more.
local function message_len(tvb, pos, is_init)
    local have = tvb:len() - pos
    local need = is_init and 8 or 3
    if have < need then
        return nil, need - have
    end
    local len = is_init and tvb(pos + 4, 4):uint() or 3 + tvb(pos + 1, 2):uint()
    if len > have then
        return nil, len - have
    end
    return len
end

local function is_magic(tvb, pos)
    if tvb:len() - pos < 4 then
        return true -- it may become one
    end
    local magic = tvb(pos, 4):uint()
    return magic == INIT1 or magic == INIT2
end

-- The bytes at pos are an Init message: the first of a stream whose keys are exchanged.
local function expects_init(s, dir, tvb, pos, pinfo)
    if s.chosen.resumed then
        return false
    end
    if pinfo.visited then
        return dir.init_frame == pinfo.number and is_magic(tvb, pos)
    end
    return dir.offset == 0
end

local function direction(s, pinfo)
    local from, to = addresses()
    local key = direction_key(from, pinfo.src_port, to, pinfo.dst_port)
    local dir = s.dirs[key]
    if not dir then
        dir = {key = key, offset = 0, generation = 0}
        s.dirs[key] = dir
    end
    return dir
end

function tcpcrypt.dissector(tvb, pinfo, tree)
    local s = streams[stream_number()]
    if not s or not s.chosen or s.disabled then
        return 0
    end
    local dir = direction(s, pinfo)
    local pos, words = 0, {}
    while pos < tvb:len() do
        local is_init = expects_init(s, dir, tvb, pos, pinfo)
        if is_init and not is_magic(tvb, pos) then
            s.disabled = true -- the ENO option of the ACK was lost, and both speak plain TCP
            return 0
        end
        local len, more = message_len(tvb, pos, is_init)
        if not len then
            pinfo.desegment_offset = pos
            pinfo.desegment_len = more
            break
        end
        local range = tvb(pos, len)
        local raw = range:bytes():raw()
        if is_init then
            if not pinfo.visited then
                dir.init_frame = pinfo.number
                dir.offset = len
            end
            words[#words + 1] = len >= 8 and show_init(range, s.chosen.tep, tree) or "short Init"
        else
            local key = pinfo.number .. ":" .. raw:sub(-TAG_LEN)
            if not pinfo.visited then
                records[key] = open_frame(dir, raw)
            end
            words[#words + 1] = show_frame(range, records[key], tree)
        end
        pos = pos + (len > 0 and len or 1)
    end
    pinfo.cols.protocol = "tcpcrypt"
    if #words > 0 then
        pinfo.cols.info = table.concat(words, ", ")
    end
    return tvb:len()
end
