-- Sends the bodies of a file, one a line, in their order and over again; prints one line of JSON.
-- wrk -s wrk.lua ... URL -- BODIES OFFSET

local requests = {}
local position = 0

function init(args)
   local headers = { ["Content-Type"] = "application/json" }
   for body in io.lines(args[1]) do
      requests[#requests + 1] = wrk.format("POST", nil, headers, body)
   end
   position = tonumber(args[2])
end

function request()
   position = position % #requests + 1
   return requests[position]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests":%d,"microseconds":%d,"failures":%d,"p50_us":%d,"p99_us":%d}\n',
      summary.requests, summary.duration,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50), latency:percentile(99)))
end
