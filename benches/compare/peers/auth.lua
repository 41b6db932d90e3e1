-- imgate's user chain as an experienced OpenResty developer would write it: RFC 9421 signature in
-- imgate's profile, session and token from an in-process cache or from Redis, nonce remembered.
--
-- Fast paths taken on purpose: SHA-256 through FFI with the keyed HMAC states cached per session, and
-- only string functions that LuaJIT compiles. It takes parameters only in the order our clients write
-- them, and does not look into the OpenIM token: both spare it work that imgate does.

local ffi = require "ffi"
local lrucache = require "resty.lrucache"
local redis = require "nginx.redis"
local buffer = require "string.buffer"

ffi.cdef [[
typedef struct { uint32_t h[8]; uint32_t nl, nh; uint32_t data[16]; uint32_t num, md_len; } compare_sha256;
int SHA256_Init(compare_sha256 *state);
int SHA256_Update(compare_sha256 *state, const void *data, size_t len);
int SHA256_Final(unsigned char *digest, compare_sha256 *state);
int CRYPTO_memcmp(const void *a, const void *b, size_t len);
]]

local C, copy, new, to_string = ffi.C, ffi.copy, ffi.new, ffi.string
local sub, find, byte, match, rep = string.sub, string.find, string.byte, string.match, string.rep
local tonumber, type, abs = tonumber, type, math.abs
local decode_base64, ngx_time = ngx.decode_base64, ngx.time
local read_body, body_data, method = ngx.req.read_body, ngx.req.get_body_data, ngx.req.get_method
local headers_of, var = ngx.req.get_headers, ngx.var

local STATE = ffi.sizeof("compare_sha256")
local PREFIX = '("@method" "@authority" "@path" "@query" "content-digest");created='
local SKEW, CACHE_SECONDS, SESSIONS = 60, 60, 100000

local work, digest = new("compare_sha256"), new("unsigned char[32]")
-- The signature base never becomes a Lua string: LuaJIT hashes a few bytes of a long string only, and
-- bases differ elsewhere, so interning them would cost more than all the rest (see signing.py).
local base = buffer.new(1024)
local nonces, sessions, options

local function sha256(text)
  C.SHA256_Init(work)
  C.SHA256_Update(work, text, #text)
  C.SHA256_Final(digest, work)
end

-- The hash state after the padded key, which saves two of the four compressions of a MAC.
local function keyed(key, pad)
  local bytes = {}
  for i = 1, 64 do bytes[i] = string.char(bit.bxor(byte(key, i) or 0, pad)) end
  local state = new("compare_sha256")
  C.SHA256_Init(state)
  C.SHA256_Update(state, table.concat(bytes), 64)
  return state
end

-- Leaves the MAC in `digest`.
local function hmac(inner, outer, text, len)
  copy(work, inner, STATE)
  C.SHA256_Update(work, text, len)
  C.SHA256_Final(digest, work)
  copy(work, outer, STATE)
  C.SHA256_Update(work, digest, 32)
  C.SHA256_Final(digest, work)
end

local SALT_INNER, SALT_OUTER = keyed(rep("\0", 32), 0x36), keyed(rep("\0", 32), 0x5c)

-- HKDF-SHA256 with an empty salt, one block of output.
local function derive(secret)
  hmac(SALT_INNER, SALT_OUTER, secret, #secret)
  local prk = to_string(digest, 32)
  hmac(keyed(prk, 0x36), keyed(prk, 0x5c), "imgate/v1/http\1", 15)
  local key = to_string(digest, 32)
  return keyed(key, 0x36), keyed(key, 0x5c)
end

local function refuse(status, code)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.print('{"errCode":', code, ',"errMsg":"refused","errDlt":""}')
  return ngx.exit(status)
end

local function load_session(id)
  local link = redis:new()
  link:set_timeout(100)
  if not link:connect("127.0.0.1", options.redis) then return nil, 503 end
  local record = link:get("imgate:session:" .. id)
  if not record then return nil, 503 end
  if record == ngx.null then return nil, 401 end
  local user = match(record, '"user_id":"([^"]+)"')
  local found = link:mget("im:token:" .. user, "imgate:ban:" .. user)
  if not found then return nil, 503 end
  link:set_keepalive(60000, 100)
  if found[1] == ngx.null then return nil, 401 end
  local inner, outer = derive(decode_base64(match(record, '"secret":"([^"]+)"')))
  return {
    user = user,
    token = found[1],
    inner = inner,
    outer = outer,
    expires_at = tonumber(match(record, '"expires_at":(%d+)')),
    dead = match(record, '"revoked_at":(%d+)') or found[2] ~= ngx.null,
  }
end

local function session_of(id)
  if not options.cache then return load_session(id) end
  local session = sessions:get(id)
  if session then return session end
  local fresh, status = load_session(id)
  if fresh then sessions:set(id, fresh, CACHE_SECONDS) end
  return fresh, status
end

-- Splits `label=(...);created=...;nonce="...";alg="hmac-sha256";keyid="...";tag="imgate"`.
local function parse(input)
  local equals = find(input, "=", 1, true)
  if not equals or sub(input, equals + 1, equals + #PREFIX) ~= PREFIX then return end
  local from = equals + #PREFIX + 1
  local nonce_at = find(input, ';nonce="', from, true)
  local alg_at = nonce_at and find(input, '";alg="hmac-sha256";keyid="', nonce_at, true)
  local tag_at = alg_at and find(input, '";tag="imgate"', alg_at, true)
  if not tag_at or tag_at + 13 ~= #input then return end
  local nonce = sub(input, nonce_at + 8, alg_at - 1)
  local created = tonumber(sub(input, from, nonce_at - 1))
  if not created or #nonce < 16 or #nonce > 64 then return end
  return sub(input, 1, equals), sub(input, equals + 1), created, nonce, sub(input, alg_at + 27, tag_at - 1)
end

local function target()
  local uri = var.request_uri
  local mark = find(uri, "?", 1, true)
  if not mark then return uri, "?" end
  return sub(uri, 1, mark - 1), sub(uri, mark)
end

local function is_equal(encoded)
  local bytes = #encoded == 44 and decode_base64(encoded)
  return bytes and #bytes == 32 and C.CRYPTO_memcmp(bytes, digest, 32) == 0
end

local function has_signed(session, headers, params, mac)
  local path, query = target()
  base:reset()
  base:put('"@method": ', method(), '\n"@authority": ', options.authority, '\n"@path": ', path, '\n"@query": ', query,
    '\n"content-digest": ', headers["content-digest"], '\n"@signature-params": ', params)
  hmac(session.inner, session.outer, base:ref())
  return is_equal(mac)
end

local function has_body(content_digest)
  read_body()
  sha256(body_data() or "")
  return sub(content_digest, 1, 9) == "sha-256=:" and is_equal(sub(content_digest, 10, -2))
end

local _M = {}

function _M.configure(given)
  options = given
  nonces = ngx.shared.nonces
  sessions = assert(lrucache.new(SESSIONS))
end

function _M.check()
  local headers = headers_of()
  local input, signature, content_digest = headers["signature-input"], headers["signature"], headers["content-digest"]
  -- A header that is there twice comes as a table.
  if type(input) ~= "string" or type(signature) ~= "string" or type(content_digest) ~= "string" then
    return refuse(401, 20101)
  end
  local label, params, created, nonce, id = parse(input)
  if not label or sub(signature, 1, #label + 1) ~= label .. ":" then return refuse(401, 20102) end
  if headers.host ~= options.authority then return refuse(400, 20202) end
  local now = ngx_time()
  if abs(now - created) > SKEW then return refuse(401, 20103) end

  local session, status = session_of(id)
  if not session then return refuse(status, status == 401 and 1501 or 20401) end
  if session.dead or now >= session.expires_at then return refuse(401, 1506) end
  if not has_signed(session, headers, params, sub(signature, #label + 2, -2)) then return refuse(401, 20104) end
  if not has_body(content_digest) then return refuse(401, 20104) end

  local fresh, why = nonces:safe_add(id .. nonce, true, created + SKEW - now + 1)
  if not fresh then
    if why == "exists" then return refuse(401, 20105) end
    return refuse(503, 20404)
  end
  var.im_token = session.token
  var.im_user = session.user
end

return _M
