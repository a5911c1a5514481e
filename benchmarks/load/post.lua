-- wrk: POST a JSON body, and print the figures as one line of JSON at the end.
-- Arguments: the file of the body and, optionally, a file of ids, one a line; each request takes the next id in the place of ID.
function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method, wrk.body = "POST", file:read("*a")
  wrk.headers["Content-Type"] = "application/json"
  file:close()
  if args[2] then
    local head, tail = wrk.body:match("^(.*)ID(.*)$")
    local next_id = assert(io.lines(args[2]))
    local left = true
    function request()
      left = left and next_id()
      return wrk.format(nil, nil, nil, head .. (left or "no-id-left") .. tail) -- which is answered with 404 and so counts as failed
    end
  end
end

function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.status + summary.errors.timeout
  io.write(string.format('\nRESULT {"rate": %.1f, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d}\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, failed))
end
