-- Takes in what a process reports of a quota, and takes tokens for it: see
-- tollgate.Store. Times are in microseconds, by the clock of Redis.
--
-- KEYS[1] holds all of the quota's state. ARGV is a list of numbers, read in
-- order by arg; the reply is one too.

local SLOTS = 256      -- of a window: its tokens come back up to a slot late
local BUCKET = 15625   -- tokens taken within so long arrive as one
local FLIGHT = 1000000 -- until they have, if nothing is heard of them
local DRIFT = 1 / 2000 -- how far two clocks may run apart
local DAY = 86400000000
local REQUESTS = 0
local WINDOW, STEADY, CALENDAR = 1, 2, 3
local SPENT, UNSPENT, SETTLED, LEVEL, DRAIN, LIMITED, PAUSE, CLOCK = 0, 1, 2, 3, 4, 5, 6, 7

local at = 0
local function arg()
	at = at + 1
	return tonumber(ARGV[at])
end

at = 1
local me = ARGV[1]
local now = arg()
if now == 0 then
	local t = redis.call('TIME')
	now = t[1] * 1000000 + t[2]
end
local lease, grace = arg(), arg()

local packed = redis.call('GET', KEYS[1])
local state = packed and cmsgpack.unpack(packed) or {l = {}, w = {}}

-- Rings: strings of records of a time and an amount, in the order of time.
local RECORD, SIZE = '>I7I6', 13
local function get(ring, i) return struct.unpack(RECORD, ring, (i - 1) * SIZE + 1) end
local function length(ring) return #ring / SIZE end

-- put adds n at time t to the record that same says is of the same time, which
-- then is the later one. It returns the ring and by how much that has changed: no
-- record is less than nothing.
local function put(ring, t, n, same)
	local i = length(ring)
	while i > 0 do
		local at, amount = get(ring, i)
		if same(at, t) then
			n = math.max(n, -amount)
			if n > 0 then at = math.max(at, t) end
			return ring:sub(1, (i - 1) * SIZE) .. struct.pack(RECORD, at, amount + n) .. ring:sub(i * SIZE + 1), n
		elseif at < t then
			break
		end
		i = i - 1
	end
	if n <= 0 then return ring, 0 end
	return ring:sub(1, i * SIZE) .. struct.pack(RECORD, t, n) .. ring:sub(i * SIZE + 1), n
end

local function bucket(t) return math.floor(t / BUCKET) end
local function together(a, b) return bucket(a) == bucket(b) end

-- The server's clock is ahead of ours by something between two bounds.
local midnights

local function bounds()
	local c = state.c
	local d = math.max(now - c[3], 0) * DRIFT
	return c[1] - d, c[2] + d
end

-- following is when the span after that of the server's time t begins.
local function following(t, per)
	if per < DAY then return t - t % per + per end
	for i = 1, 4 do
		if midnights[i] > t then return midnights[i] end
	end
	return t + per
end

-- back is when a token that was spent by the time given has come back.
local function back(l, spent)
	if l.refill == CALENDAR and (state.c or l.per >= DAY) then
		local lo, hi = 0, 0
		if state.c then lo, hi = bounds() end
		local b = following(spent + hi, l.per) - lo
		if l.per >= DAY then return b end
		return math.min(spent + l.span, b)
	end
	return spent + l.span
end

local function settle(l, spent, n)
	if l.refill == STEADY then
		if n > 0 then
			l.s = math.max(l.s, now) + n * l.gap
			l.e = math.max(l.e, spent) + n * l.gap
		else
			l.s, l.e = l.s + n * l.gap, l.e + n * l.gap
		end
		return
	end
	if back(l, spent) <= now then return end
	local changed
	l.r, changed = put(l.r, spent, n, function(a, b)
		return math.floor(a / l.grain) == math.floor(b / l.grain) and (l.per < DAY or following(a, l.per) == following(b, l.per))
	end)
	l.live = l.live + changed
end

-- arrive counts n tokens that were on their way as spent.
local function arrive(l, spent, n)
	l.hn = l.hn - n
	if l.refill == STEADY then
		l.e = math.max(l.e, spent) + n * l.gap
	else
		settle(l, spent, n)
	end
end

-- landed is when tokens that were taken then are thought to have arrived.
local function landed(taken) return (bucket(taken) + 1) * BUCKET + FLIGHT end

-- refresh forgets what is over.
local function refresh(l)
	while #l.h > 0 do
		local taken, n = get(l.h, 1)
		if landed(taken) > now then break end
		l.h = l.h:sub(SIZE + 1)
		arrive(l, landed(taken), n)
	end
	local gone = 0
	for i = 1, length(l.r) do
		local spent, n = get(l.r, i)
		if back(l, spent) > now then break end
		l.live = l.live - n
		gone = i
	end
	if gone > 0 then l.r = l.r:sub(gone * SIZE + 1) end
	if l.ramp and now >= l.d + l.per then l.ramp = nil end
end

-- elsewhere is what others hold of a limit of requests at once.
local function elsewhere(l)
	local n = 0
	for id, w in pairs(state.w) do
		if id ~= me and w.h and w.h[l.id] then n = n + w.h[l.id] end
	end
	return n
end

local function free(l)
	local n
	if l.per == 0 then
		n = l.n - l.mine - elsewhere(l)
	elseif l.refill == STEADY then
		n = math.min(l.burst - math.ceil(math.max(l.s - now, 0) / l.gap - 1e-6), l.n - math.ceil(math.max(l.e - now, 0) / l.gap - 1e-6) - l.hn)
	else
		n = l.n - l.hn - l.live
	end
	if now < l.d then return math.min(n, 0) end
	if l.ramp then n = math.min(n, l.n - math.ceil(math.max(l.ramp - now, 0) / l.gap - 1e-6)) end
	return n
end

-- ready is when n tokens are worth asking for, after others have taken some. Of
-- what depends on tokens on their way it is the earliest that it can be.
local function ready(l, n, others)
	local t = math.max(now, l.d)
	if l.per == 0 then
		if n + others > free(l) then t = now + 250000 end
		return t
	end
	n = math.min(n, l.n)
	if l.refill == STEADY then
		if n > l.n - l.hn then
			local taken = get(l.h, 1)
			t = math.max(t, math.min(landed(taken), now + 100000))
		else
			t = math.max(t, l.s + (others - math.max(l.burst - n, 0)) * l.gap, l.e + (others - l.n + n + l.hn) * l.gap)
		end
	else
		local need = n + others - (l.n - l.hn - l.live)
		for _, ring in ipairs({l.r, l.h}) do
			local i = 0
			while need > 0 and i < length(ring) do
				i = i + 1
				local spent, amount = get(ring, i)
				need = need - amount
				if need <= 0 then t = math.max(t, back(l, spent)) end
			end
		end
		if need > 0 then t = math.max(t, now + l.span) end
	end
	if l.ramp then t = math.max(t, math.min(l.ramp + (others - l.n + n) * l.gap, l.d + l.per)) end
	return t
end

-- full is when all tokens are back, if none is taken.
local function full(l)
	local t = math.max(now, l.d)
	if l.per == 0 then return t end
	if l.refill == STEADY then
		t = math.max(t, l.s, l.e + l.hn * l.gap)
	else
		for _, ring in ipairs({l.r, l.h}) do
			if #ring > 0 then t = math.max(t, back(l, (get(ring, length(ring))))) end
		end
	end
	if l.ramp then t = math.max(t, math.min(l.ramp, l.d + l.per)) end
	return t
end

local function take(l, n)
	if l.per == 0 then
		l.mine = l.mine + n
		return
	end
	if l.ramp then l.ramp = math.max(l.ramp, now) + n * l.gap end
	l.hn = l.hn + n
	l.h = put(l.h, now, n, together)
	if l.refill == STEADY then l.s = math.max(l.s, now) + n * l.gap end
end

-- unheld takes n tokens that were taken at some time from those on their way,
-- and returns how many of them had been there.
local function unheld(l, taken, n)
	local changed = 0
	if taken > 0 then l.h, changed = put(l.h, taken, -n, together) end
	l.hn = l.hn + changed
	return -changed
end

-- The limits, as the process knows them and as they are in force.
local limits, byid = {}, {}
local lost = next(state.l) == nil and 1 or 0
for i = 1, arg() do
	local unit, n, per, refill, burst = arg(), arg(), arg(), arg(), arg()
	local id = unit .. ':' .. per .. ':' .. (refill == CALENDAR and per >= DAY and 1 or 0)
	local l = state.l[id]
	if not l then
		l = {r = '', h = '', hn = 0, live = 0, s = 0, e = 0, d = 0}
		state.l[id] = l
	end
	l.id, l.unit, l.per = id, unit, per
	l.own = {n, refill, burst}
	limits[i], byid[id] = l, l
end

local function inforce(l)
	local f = l.f or l.own
	if l.refill and l.refill ~= f[2] and (l.refill == STEADY or f[2] == STEADY) then
		l.s, l.e, l.r, l.live = now, now, '', 0 -- another rule
	end
	l.n, l.refill, l.burst = f[1], f[2], f[3]
	if l.burst == 0 then l.burst = l.n end
	l.span = l.per * (1 + DRIFT)
	l.gap = l.span / math.max(l.n, 1)
	l.grain = math.max(math.ceil(l.per / SLOTS), 1000)
end

midnights = {arg(), arg(), arg(), arg()}
local mine = state.w[me] or {used = 0, seen = now}
state.w[me] = mine
mine.h = {}
for id, w in pairs(state.w) do
	if now - w.seen > lease then state.w[id] = nil end
end
for _, l in ipairs(limits) do
	inforce(l)
	l.mine = arg()
	refresh(l)
end

for _ = 1, arg() do
	local event, i, n, taken, ago, long, anew, date = arg(), arg(), arg(), arg(), arg(), arg(), arg(), arg()
	local l, t = limits[i + 1], now - ago
	if event == PAUSE then
		state.p = math.max(state.p or 0, t + long)
	elseif event == CLOCK then
		-- A Date is cut off to whole seconds, and was made between the two.
		local sent = taken > 0 and taken or t
		local lo, hi = date - t, date + 1000000 - sent
		if state.c then
			local was, is = bounds()
			if math.max(lo, was) <= math.min(hi, is) then lo, hi = math.max(lo, was), math.min(hi, is) end
		end
		state.c = {lo, hi, now}
	elseif event == LIMITED then
		l.f = l.own
		inforce(l)
	elseif event == DRAIN then
		if t + long > l.d then
			l.d, l.ramp = t + long, nil
			if anew == 0 and l.n > 0 and l.per > 0 then l.ramp = l.d + (l.n - 1) * l.gap end
		end
	elseif l.per > 0 then
		if event == SPENT then
			local held = unheld(l, taken, n)
			if held > 0 then
				l.hn = l.hn + held
				arrive(l, t, held)
			end
			if held < n then
				if taken > 0 then settle(l, landed(taken), held - n) end
				settle(l, t, n - held)
			end
		elseif event == UNSPENT then
			local held = unheld(l, taken, n)
			if l.refill == STEADY then
				l.s = l.s - n * l.gap
				if held < n then l.e = l.e - (n - held) * l.gap end
			elseif held < n then
				settle(l, landed(taken), held - n)
			end
			if l.ramp then l.ramp = l.ramp - n * l.gap end
		elseif event == SETTLED then
			settle(l, t, n)
		elseif event == LEVEL then
			if l.refill == STEADY then n = n + math.floor(math.max(ago, 0) / l.gap) end
			local more = free(l) - n
			if more > l.n / 100 then settle(l, now, more) end
		end
	end
end

-- What each process has used counts less and less with the time.
local memory, whole = 1000000, math.huge
for _, l in ipairs(limits) do
	if l.per > 0 and l.per < DAY then
		memory = math.max(memory, 4 * l.per)
		if l.unit == REQUESTS then whole = math.min(whole, l.n) end
	end
end
local function used(w) return w.used * math.exp((w.seen - now) / memory) end
mine.used, mine.seen = used(mine), now

-- Those who wait come in the order of what they have used, the least first. One
-- that was due and has not come is forgotten for now. Who waits and is due, or
-- was here just now, is a rival for what there is.
local RECENT, HOLD = 25000, 10000
local others, active, most = {}, 1, 0
for id, w in pairs(state.w) do
	if id ~= me then
		if w.due and now > w.due + grace then w.due, w.held = nil, nil end
		local o = {id = id, used = used(w), c = w.due and w.c}
		if w.due then
			o.rival = w.held or w.due <= now
		else
			o.rival = w.seen + RECENT >= now
		end
		if o.c or o.rival then
			active, most = active + 1, math.max(most, o.used)
			others[#others + 1] = o
		end
	end
end
if whole < math.huge then -- who was away has no more than its part to come
	mine.used = math.max(mine.used, most - whole / active)
end
-- first is what those who come before this process wait for.
local function first()
	local sum = {0, 0, 0}
	for _, o in ipairs(others) do
		if o.c and (o.used < mine.used or o.used == mine.used and o.id < me) then
			for u = 1, 3 do sum[u] = sum[u] + o.c[u] end
		end
	end
	return sum
end
local rivals, least = {}, true
for _, o in ipairs(others) do
	if o.rival then
		rivals[#rivals + 1] = o.used
		least = least and mine.used <= o.used
	end
end

-- part is how many of k requests, where free ones could go, leave rivals what
-- they need to have had as much.
local function part(k, free)
	local function fits(k)
		for _, u in ipairs(rivals) do free = free - math.max(0, mine.used + k - u) end
		return free >= k
	end
	local whole = free
	local lo, hi = 0, k
	while lo < hi do
		local mid = math.ceil((lo + hi) / 2)
		free = whole
		if fits(mid) then lo = mid else hi = mid - 1 end
	end
	if lo == 0 and least then return math.min(k, 1) end
	return lo
end

-- when is when a cost is worth asking for, after those of others.
local function when(cost, others)
	local t = math.max(now, state.p or 0)
	for _, l in ipairs(limits) do
		local n = math.min(cost[l.unit + 1], math.max(l.n, 1))
		if n > 0 then
			if l.n <= 0 then return now + DAY end
			t = math.max(t, ready(l, n, others[l.unit + 1]))
		end
	end
	return t
end

local asks, granted, wait = {}, 0, -1
for i = 1, arg() do asks[i] = {arg(), arg(), arg()} end
if #asks > 0 then
	-- How many could go, and of those a fair part.
	local could, room, ahead = 0, math.huge, first()
	local sums, left, most = {}, {}, {}
	for i, l in ipairs(limits) do
		local u = l.unit + 1
		sums[i], left[i], most[i] = 0, free(l) - (#rivals == 0 and ahead[u] or 0), math.max(l.n, 1)
	end
	local function sum(k, ask)
		local ok = true
		for i, l in ipairs(limits) do
			sums[i] = sums[i] + k * math.min(ask[l.unit + 1], most[i])
			ok = ok and (ask[l.unit + 1] == 0 or sums[i] <= left[i])
		end
		return ok
	end
	if (state.p or 0) <= now then
		for i, c in ipairs(asks) do
			if not sum(1, c) then
				sum(-1, c)
				break
			end
			could = i
		end
	end
	for i, l in ipairs(limits) do
		if sums[i] > 0 then room = math.min(room, free(l) / sums[i] * could) end
	end
	granted = could > 0 and part(could, room) or 0
	for i = granted + 1, could do sum(-1, asks[i]) end
	for i, l in ipairs(limits) do
		if sums[i] > 0 then take(l, sums[i]) end
	end
	mine.used = mine.used + granted
	mine.due, mine.c, mine.held = nil, nil, nil
	if granted < #asks then
		local c, t = asks[granted + 1]
		if granted < could then
			t, mine.held = now + HOLD, true -- for the rivals to have their part
		else
			t = when(c, first())
		end
		mine.due, mine.c = t, c
		wait = math.max(t - now, 0)
	end
else
	mine.due, mine.c, mine.held = nil, nil, nil
end

-- The reply.
local reply = {granted, bucket(now) * BUCKET, wait, math.max((state.p or 0) - now, 0), lost, #limits}
local function add(n) reply[#reply + 1] = n end
local ttl = math.max(60000000, lease)
for _, l in ipairs(limits) do
	if l.mine > 0 then mine.h[l.id] = l.mine end
	add(l.n) add(l.refill) add(l.burst == l.n and 0 or l.burst)
	add(free(l))
	add(math.ceil(full(l) - now))
	add(math.ceil(math.max(l.d - now, 0)))
end
local others = {}
for id, l in pairs(state.l) do
	if l.f and not byid[id] then others[#others + 1] = l end
end
add(#others)
for _, l in ipairs(others) do add(l.unit) add(l.f[1]) add(l.per) add(l.f[2]) add(l.f[3]) end
for _, l in pairs(state.l) do
	ttl = math.max(ttl, (l.per or 0) * 2 + FLIGHT, l.d - now + (l.per or 0))
	l.own, l.mine, l.span, l.gap, l.grain = nil, nil, nil, nil, nil
end
redis.call('SET', KEYS[1], cmsgpack.pack(state), 'PX', math.ceil(ttl / 1000))
for i, n in ipairs(reply) do reply[i] = math.ceil(n) end
return reply
