-- What is left of an allowance that gateways share: the arithmetic of src/gcra.rs, by the clock of Redis.
-- KEYS[1]: the allowance. ARGV: interval and tolerance in nanoseconds.
-- The key holds when the allowance is whole again, as seconds and nanoseconds: a number alone cannot hold
-- both, a double being exact up to 2^53. It is gone by then, and no key is a whole allowance.
-- Returns whether the request passes (1) or not (0), and how many nanoseconds from now it is whole again.
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now, nanos = tonumber(time[1]), tonumber(time[2]) * 1000
local left = 0
local secs, rest = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+)%.(%d+)$')
if secs then
  left = (tonumber(secs) - now) * 1000000000 + tonumber(rest) - nanos
  -- A clock that was put back must not make anybody wait for longer than he ever has to.
  left = math.max(0, math.min(left, tolerance + interval))
end
if left > tolerance then
  return {0, left}
end
left = left + interval
nanos = nanos + left
local whole = string.format('%d.%09d', now + math.floor(nanos / 1000000000), nanos % 1000000000)
redis.call('SET', KEYS[1], whole, 'PX', math.ceil(left / 1000000))
return {1, left}
