-- Takes in what a process reports of a quota, and takes tokens for it: see
-- tollgate.Store. Times are in microseconds, by the clock of Redis.
--
-- KEYS[1] holds all of the quota's state. ARGV is a list of numbers, read in
-- order by arg; the reply is one too.

local REQUESTS = 0
local SPENT, UNSPENT, SETTLED, LEVEL, DRAIN, LIMITED, PAUSE, CLOCK = 0, 1, 2, 3, 4, 5, 6, 7

local at = 0
local function arg()
	at = at + 1
	return tonumber(ARGV[at])
end

at = 1
me = ARGV[1]
now = arg()
if now == 0 then
	local t = redis.call('TIME')
	now = t[1] * 1000000 + t[2]
end
local lease, grace = arg(), arg()

local packed = redis.call('GET', KEYS[1])
state = packed and cmsgpack.unpack(packed) or {l = {}, w = {}}

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
	local f, was = l.f or l.own, l.refill
	l.n, l.refill, l.burst = f[1], f[2], f[3]
	if l.burst == 0 then l.burst = l.n end
	l.span = l.per * (1 + DRIFT)
	l.gap = l.span / math.max(l.n, 1)
	l.grain = math.max(math.ceil(l.per / SLOTS), 1000)
	if not was or (was == STEADY) == (l.refill == STEADY) then return end
	-- Another rule: what has been spent by the one is for the other as well.
	if l.refill == STEADY then
		l.s, l.e = now + l.live * l.gap, now + l.live * l.gap
		l.r, l.live = '', 0
	else
		l.live = math.max(0, math.ceil((l.e - now) / l.gap))
		l.r = l.live > 0 and struct.pack(RECORD, now, l.live) or ''
	end
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
