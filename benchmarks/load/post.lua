-- wrk: POST a JSON body, and print the figures as one line of JSON at the end.
-- Arguments: the file of the body, a file of ids, one a line, and an API key; an empty argument is left out.
-- With ids each request takes the next one in the place of ID; without a file, ID becomes the key's prefix and a number.
-- With a key each request sends it, and a traceparent of its own.
local function read(path)
  local file = assert(io.open(path, "rb"))
  local content = file:read("*a")
  file:close()
  return content
end

function init(args)
  wrk.method, wrk.body = "POST", read(args[1])
  wrk.headers["Content-Type"] = "application/json"
  local ids, key = args[2] or "", args[3] or ""
  local head, tail = wrk.body:match("^(.*)ID(.*)$")
  if ids ~= "" then
    local next_id = assert(io.lines(ids))
    local left = true
    function request()
      left = left and next_id()
      return wrk.format(nil, nil, nil, head .. (left or "no-id-left") .. tail) -- which is answered with 404 and so counts as failed
    end
  elseif key ~= "" then
    local number, start = 0, os.time()
    wrk.headers["X-API-Key"] = key
    function request()
      number = number + 1
      wrk.headers["traceparent"] = string.format("00-%016x%016x-%016x-01", start, number, number)
      return wrk.format(nil, nil, nil, head .. string.format("order-%d-%d", start, number) .. tail)
    end
  end
end

function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.status + summary.errors.timeout
  io.write(string.format('\nRESULT {"rate": %.1f, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d}\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, failed))
end
