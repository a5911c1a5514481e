-- wrk: POST a JSON body, and print the figures as one line of JSON at the end.
-- Arguments: the file of the body, a file of ids, one a line, an API key, and words of what differs from request to request.
-- An empty argument is left out. With a file of ids each request takes the next one in the place of ID. The words:
--   trace    a traceparent of its own
--   order    a new id in sequence in the place of ID
--   uuid     a new random id in the place of ID
--   replays  one in four requests repeats an earlier id with the same body, one in a hundred with another
local function read(path)
  local file = assert(io.open(path, "rb"))
  local content = file:read("*a")
  file:close()
  return content
end

local function uuid()
  local function word() return math.random(0, 65535) end
  return string.format("%04x%04x-%04x-4%03x-%04x-%04x%04x%04x", word(), word(), word(), word() % 4096,
    32768 + word() % 16384, word(), word(), word())
end

local function own_ids(template, varies, start)
  local head, tail = template:match("^(.*)ID(.*)$")
  local other = head:gsub(":%s*[%d.]+", ": 1.5", 1)
  local function order(number) return string.format("order-%d-%d", start, number) end
  return function(number)
    if varies.uuid then return head .. uuid() .. tail end
    if varies.replays and number > 1000 then
      if number % 100 == 99 then return other .. order(number - 901) .. tail end
      if number % 4 == 0 then return head .. order(number - 901) .. tail end
    end
    return head .. order(number) .. tail
  end
end

local function from_file(template, path)
  local head, tail = template:match("^(.*)ID(.*)$")
  local next_id = assert(io.lines(path))
  local left = true
  return function()
    left = left and next_id()
    return head .. (left or "no-id-left") .. tail -- which is answered with 404 and so counts as failed
  end
end

function init(args)
  wrk.method, wrk.body = "POST", read(args[1])
  wrk.headers["Content-Type"] = "application/json"
  local varies, number, start = {}, 0, os.time()
  for word in (args[4] or ""):gmatch("%a+") do varies[word] = true end
  math.randomseed(start)
  if (args[3] or "") ~= "" then wrk.headers["X-API-Key"] = args[3] end
  local body
  if (args[2] or "") ~= "" then
    body = from_file(wrk.body, args[2])
  elseif varies.order or varies.uuid or varies.replays then
    body = own_ids(wrk.body, varies, start)
  end
  if body or varies.trace then
    function request()
      number = number + 1
      if varies.trace then
        wrk.headers["traceparent"] = string.format("00-%016x%016x-%016x-01", start, number, number)
      end
      return wrk.format(nil, nil, nil, body and body(number))
    end
  end
end

function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.status + summary.errors.timeout
  io.write(string.format('\nRESULT {"rate": %.1f, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d}\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, failed))
end
