-- The rules by which tokens come back, as in the files of package tollgate that
-- are named for them: what exchange.lua begins with. Times are in microseconds.

local SLOTS = 256      -- of a window: its tokens come back up to a slot late
local BUCKET = 15625   -- tokens taken within so long arrive as one
local FLIGHT = 1000000 -- until they have, if nothing is heard of them
local DRIFT = 1 / 2000 -- how far two clocks may run apart
local DAY = 86400000000
local STEADY, CALENDAR = 2, 3

-- now is the time, state all that is kept of a quota, and me the process that
-- asks. Of a limit l, r is what was spent, h what is on its way, hn how many that
-- are, live how many of r; s and e are when the buckets of what was sent and of
-- what has arrived are full; d is a drain's end, ramp when its bucket is full.
local now, state, me, midnights

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

