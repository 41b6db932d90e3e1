-- Sends requests signed beforehand, each once, in the order of the list.
--
-- Usage: wrk ... -s wrk.lua URL -- LIST. The first four lines of LIST are Lua strings: the
-- pieces of a request around what differs (nonce, session, MAC). Every further line is
-- one request: nonce, session and MAC, separated by spaces.

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

local requests, total = {}, 0
sent = 0

function init(args)
  -- Nothing becomes garbage while requests are sent, so collecting would only cost time.
  collectgarbage("stop")
  local lines = io.lines(args[1])
  local piece = {}
  for i = 1, 4 do piece[i] = loadstring("return " .. lines())() end
  for line in lines do
    local nonce, session, mac = line:match("^(%S+) (%S+) (%S+)$")
    total = total + 1
    requests[total] = piece[1] .. nonce .. piece[2] .. session .. piece[3] .. mac .. piece[4]
  end
end

function request()
  sent = sent + 1
  return requests[sent] or requests[total]
end

function done()
  for _, thread in ipairs(threads) do
    io.write(string.format("Signed requests used: %d\n", thread:get("sent")))
  end
end
