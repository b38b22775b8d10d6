-- The rules by which tokens come back, as in package refill: what exchange.lua
-- begins with. Times are in microseconds by the clock of Redis.

local SLOTS = 256      -- that a Per is divided into: tokens come back up to one late
local GRAIN = 4000     -- the shortest of them
local FLIGHT = 1000000 -- what is sent has arrived after so long, if nothing is heard
local AHEAD = 3000000  -- what is counted as spent is at most so far in the future
local DRIFT = 1 / 2000 -- how far two clocks may run apart
local DAY = 86400000000
local STEADY, CALENDAR = 2, 3

-- now is the time, meta what is known of the key, and midnights the beginnings of
-- four days.
local now, meta, midnights

-- A limit l has n tokens in per, by its rule. live of them are in its ring: those
-- that are spent, and those that are on their way at the time at which they will
-- have arrived. Of a limit of a day of the calendar they are in l.days instead, by
-- the end of the day. s and e are when the buckets of what was sent and of what has
-- arrived are full (STEADY); d is a drain's end, ramp when its bucket is full.

-- bounds is how far the server's clock is ahead of ours, at least and at most.
local function bounds()
	if meta.c3 == 0 then return 0, 0 end
	local d = math.max(now - meta.c3, 0) * DRIFT
	return meta.c1 - d, meta.c2 + d
end

-- midnight is the end of the day that the server's time t is in.
local function midnight(t)
	for i = 1, 4 do
		if midnights[i] > t then return midnights[i] end
	end
	return t + DAY
end

-- A ring is a string of amounts, each of a slot of time. The slots from l.base to
-- l.top may have some; all others are 0.
local WIDTH, AMOUNT = 6, '>I6'

local function chunk(l, i)
	local p = i % l.size
	local n = math.min(64, l.top - i + 1, l.size - p)
	return redis.call('GETRANGE', l.ring, p * WIDTH, (p + n) * WIDTH - 1), n, p
end

local ZEROS = string.rep('\0', 64 * WIDTH)

-- scan calls f with the slots that have some, the oldest first, until it says stop.
local function scan(l, f)
	local i = l.base
	while l.live > 0 and i <= l.top do
		local s, n = chunk(l, i)
		if s ~= ZEROS:sub(1, #s) then
			for k = 0, math.floor(#s / WIDTH) - 1 do
				local a = struct.unpack(AMOUNT, s, k * WIDTH + 1)
				if a > 0 and f(i + k, a) then return end
			end
		end
		i = i + n
	end
end

-- back is when what was spent in slot i has come back.
local function back(l, i)
	local t = (i + 1) * l.grain
	if l.rule == CALENDAR and meta.c3 > 0 then
		local lo, hi = bounds()
		local x = t + hi
		return math.min(t + l.span, x - x % l.per + l.per - lo)
	end
	return t + l.span
end

-- over is the last slot of which all has come back.
local function over(l)
	local i = math.floor((now - l.span) / l.grain) - 1
	if l.rule == CALENDAR and meta.c3 > 0 then
		local lo, hi = bounds()
		local begin = now + lo
		begin = begin - begin % l.per
		i = math.max(i, math.ceil((begin - hi) / l.grain) - 2)
	end
	return i
end

-- put counts n more tokens as spent at time t, or fewer, and returns how many that
-- were: no slot has less than nothing.
local function put(l, t, n)
	if l.days then
		local _, hi = bounds()
		local day, i = midnight(t + hi), 1
		while l.days[i] and l.days[i] < day do i = i + 2 end
		if l.days[i] ~= day then
			if n <= 0 then return 0 end
			table.insert(l.days, i, 0)
			table.insert(l.days, i, day)
		end
		n = math.max(n, -l.days[i + 1])
		l.days[i + 1] = l.days[i + 1] + n
		l.live = l.live + n
		return n
	end
	local i = math.floor(math.min(t, now + AHEAD) / l.grain)
	if n == 0 or i <= over(l) then return 0 end
	if l.live == 0 then
		l.base, l.top = i, i
	elseif n < 0 and (i < l.base or i > l.top) then
		return 0
	end
	l.base, l.top = math.min(l.base, i), math.max(l.top, i)
	local p = i % l.size * WIDTH
	local s = redis.call('GETRANGE', l.ring, p, p + WIDTH - 1)
	local a = #s == WIDTH and struct.unpack(AMOUNT, s) or 0
	n = math.max(n, -a)
	if n ~= 0 then
		redis.call('SETRANGE', l.ring, p, struct.pack(AMOUNT, a + n))
		l.live, l.list = l.live + n, nil
		if l.expires < now + l.ttl / 2 then
			redis.call('PEXPIRE', l.ring, math.ceil(l.ttl / 1000))
			l.expires = now + l.ttl
		end
	end
	return n
end

-- refresh forgets what has come back, and has arrive what is no longer on its way.
local function refresh(l)
	if l.ramp > 0 and now >= l.d + l.per then l.ramp = 0 end
	if l.days then
		local lo = bounds()
		while l.days[1] and l.days[1] - lo <= now do
			l.live = l.live - l.days[2]
			table.remove(l.days, 1)
			table.remove(l.days, 1)
		end
		return
	end
	if l.live == 0 or l.per == 0 then return end
	local last = math.min(over(l), l.top)
	while l.base <= last do
		local s, n, p = chunk(l, l.base)
		n = math.min(n, last - l.base + 1)
		s = s:sub(1, n * WIDTH)
		if s ~= ZEROS:sub(1, #s) then
			for k = 0, math.floor(#s / WIDTH) - 1 do
				local a = struct.unpack(AMOUNT, s, k * WIDTH + 1)
				l.live = l.live - a
				if a > 0 and l.rule == STEADY then l.e = math.max(l.e, (l.base + k + 1) * l.grain) + a * l.gap end
			end
			redis.call('SETRANGE', l.ring, p * WIDTH, ZEROS:sub(1, #s))
		end
		l.base = l.base + n
	end
	if l.base > l.top then l.live = 0 end -- the ring may have been evicted
end

-- debt is how many tokens a bucket that is full at time t lacks.
local function debt(l, t) return math.ceil(math.max(t - now, 0) / l.gap - 1e-6) end

local function free(l)
	local n = l.n - l.live
	if l.per == 0 then
		n = l.n - l.held
	elseif l.rule == STEADY then
		n = math.min(l.burst - debt(l, l.s), n - debt(l, l.e))
	end
	if now < l.d then return math.min(n, 0) end
	if l.ramp > 0 then n = math.min(n, l.n - debt(l, l.ramp)) end
	return n
end

-- list is when what is gone comes back: a list of times and of how many are back
-- by then.
local function list(l)
	if not l.list then
		local lo, sum = bounds(), 0
		l.list = {}
		for i = 1, #(l.days or ''), 2 do
			sum = sum + l.days[i + 1]
			l.list[#l.list + 1] = {l.days[i] - lo, sum}
		end
		if not l.days then
			scan(l, function(i, a)
				sum = sum + a
				l.list[#l.list + 1] = {back(l, i), sum}
			end)
		end
	end
	return l.list
end

-- poll is when one of the slots of a limit of requests at once may be free that
-- k have to leave before: as fast as they have come back lately.
local function poll(l, k)
	local every = math.max(l.every, (now - l.freed) / 2)
	return now + math.max(2000, math.min(k, 64) * math.min(every, 1000000))
end

-- ready is when c tokens can be taken after m others, and whether that is certain.
local function ready(l, m, c)
	local t = math.max(now, l.d)
	if l.per == 0 then
		local k = m + c - (l.n - l.held)
		if k > 0 then return math.max(t, poll(l, k)), false end
		return t, true
	end
	local sure = true
	if l.rule == STEADY then
		local lack = m + c + l.live - l.n
		t = math.max(t, (m > 0 and math.max(l.s, now) or l.s) + (m - math.max(l.burst - c, 0)) * l.gap, (lack > 0 and math.max(l.e, now) or l.e) + lack * l.gap)
		sure = lack <= 0
	else
		local need = m + c - (l.n - l.live)
		if need > 0 then
			local all = list(l)
			local lo, hi = 1, #all + 1
			while lo < hi do
				local mid = math.floor((lo + hi) / 2)
				if all[mid][2] >= need then hi = mid else lo = mid + 1 end
			end
			if all[lo] then
				t = math.max(t, all[lo][1])
			else -- what is free is taken before, and comes back; then what had come back does once more
				local lo, hi = bounds()
				local last = l.days and midnight(now + hi) - lo or back(l, math.floor(now / l.grain))
				local rest = need - l.n
				if rest > 0 then last = (#all > 0 and all[#all][1] or last) + math.ceil(rest / math.max(l.n, 1)) * l.span end
				t = math.max(t, last)
				sure = false
			end
		end
	end
	if l.ramp > 0 then
		local lack = m + c - l.n
		t = math.max(t, math.min((lack > 0 and math.max(l.ramp, now) or l.ramp) + lack * l.gap, l.d + l.per))
	end
	return t, sure
end

-- full is when all tokens are back, if none is taken.
local function full(l)
	local t = math.max(now, l.d)
	if l.per == 0 then return t end
	if l.rule == STEADY then
		t = math.max(t, l.s, (l.live > 0 and math.max(l.e, now) or l.e) + l.live * l.gap)
	elseif l.live > 0 then
		if l.days then
			local lo = bounds()
			t = math.max(t, l.days[#l.days - 1] - lo)
		else
			t = math.max(t, back(l, l.top))
		end
	end
	if l.ramp > 0 then t = math.max(t, math.min(l.ramp, l.d + l.per)) end
	return t
end

-- take takes n tokens at time t, now or soon.
local function take(l, t, n)
	if l.per == 0 then
		l.held, l.mine = l.held + n, l.mine + n
		return
	end
	if l.ramp > 0 then l.ramp = math.max(l.ramp, t) + n * l.gap end
	if l.rule == STEADY then l.s = math.max(l.s, t) + n * l.gap end
	put(l, t + FLIGHT, n)
end

-- move counts n tokens as spent at the time to that were counted at from: 0 is
-- nowhere. What is to come is on its way.
local function move(l, n, from, to)
	local had = 0
	if from > 0 then had = -put(l, from, -n) end
	if l.rule ~= STEADY then
		if to > 0 then put(l, to, n) end
	elseif to > now then
		put(l, to, n)
		if from > 0 then l.e = l.e - (n - had) * l.gap else l.s = math.max(l.s, now) + n * l.gap end
	elseif to == 0 then
		l.s, l.e = l.s - n * l.gap, l.e - (n - had) * l.gap
	elseif from > 0 then
		l.e = math.max(l.e, to) + had * l.gap
	else
		l.s, l.e = math.max(l.s, now) + n * l.gap, math.max(l.e, to) + n * l.gap
	end
	if to == 0 and l.ramp > 0 then l.ramp = l.ramp - n * l.gap end
end

-- reset forgets all that was spent but for n tokens, which were just now.
local function reset(l, n)
	redis.call('DEL', l.ring)
	l.live, l.base, l.top, l.s, l.e, l.expires, l.list = 0, 0, 0, 0, 0, 0, nil
	if l.rule == STEADY then
		l.s, l.e = now + n * l.gap, now + n * l.gap
	elseif n > 0 then
		put(l, now, n)
	end
end
