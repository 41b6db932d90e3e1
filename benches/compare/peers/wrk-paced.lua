-- As wrk.lua, at a steady rate in all.
--
-- Usage: wrk -c CONNECTIONS ... -s wrk-paced.lua URL -- LIST CONNECTIONS RATE. Each connection waits after
-- an answer as long as its share of RATE requests per second asks for, give or take half, so that
-- connections do not fall into step.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
dofile(here .. "wrk.lua")

local list, pause = init, 0

function init(args)
  list(args)
  pause = args[2] / args[3] * 1000
end

function delay()
  return math.floor(pause * (0.5 + math.random()) + 0.5)
end
