-- Takes in what a process tells of a quota, and takes tokens for it: see
-- limiter.Store.
--
-- KEYS[1] is a hash: m has what is known of the key, w who waits, h who holds
-- tokens of limits of requests at once, p and its name a process, l and its name a
-- limit, a all processes. Each other key is the ring of one limit. ARGV[1] is the process, ARGV[2] a
-- list of numbers that arg reads in order; the reply is one too.

local REQUESTS = 0
local MOVE, LEVEL, DRAIN, PAUSE, CLOCK = 0, 1, 2, 3, 4
local KEEP = 60000000  -- for so long a limit is in force that nobody has claimed since
local STEP = 2000000   -- a clock that goes back by more has been set
local LEAD = 8         -- requests in a row that a slot goes to, before it is others' turn
local RECENT = 250000  -- who asked so lately, and has got all, is about to ask for more
local HOLD = 10000     -- for so long it may do so before others have what it would
local SHORT = 250000   -- between looks for tokens that cost less than was thought
local SWEEP = 30000000 -- between looks for processes that are gone

local key, me = KEYS[1], ARGV[1]
local args, at = cmsgpack.unpack(ARGV[2]), 0
local function arg()
	at = at + 1
	return args[at]
end

now = arg()
if now == 0 then
	local t = redis.call('TIME')
	now = t[1] * 1000000 + t[2]
end
local lease, grace, gen, seq, ahead, detail = arg(), arg(), arg(), arg(), arg(), arg()
midnights = {arg(), arg(), arg(), arg()}

local limits, fields, slots = {}, {'m', 'w', 'h', 'p' .. me, 'a'}, false
for i = 1, arg() do
	local l = {unit = arg(), per = arg(), own = {arg(), arg(), arg(), arg(), arg(), arg(), arg()}, mine = arg(), ring = KEYS[i + 1]}
	l.id = l.ring:sub(#key + 2)
	limits[i], fields[i + 5] = l, 'l' .. l.id
	slots = slots or l.per == 0
end
local got = redis.call('HMGET', key, unpack(fields))

-- What is known of the key. A clock that was set back and exchanges that are missing
-- make a new one: everyone tells again what it knows.
local function new(was)
	local keys = {key}
	for _, l in ipairs(limits) do keys[#keys + 1] = l.ring end
	for _, id in ipairs(was and was.ids or {}) do keys[#keys + 1] = key .. ':' .. id end
	redis.call('HSET', key, 'm', '') -- a Redis that is full refuses that, and then nothing was changed
	redis.call('DEL', unpack(keys))
	got = {}
	return {gen = math.max(now, was and was.gen + 1 or 0), last = now, epoch = now, pause = 0, c1 = 0, c2 = 0, c3 = 0, v = 0, expires = 0, swept = now, ids = {}, asker = '', shared = 0}
end
local row -- of this process: the number of its last exchange, when that was, its tag, and what it was granted
if got[1] then
	local m = cmsgpack.unpack(got[1])
	meta = {gen = m[1], last = m[2], epoch = m[3], pause = m[4], c1 = m[5], c2 = m[6], c3 = m[7], v = m[8], expires = m[9], swept = m[10], ids = m[11], asker = m[12], shared = m[13]}
	row = got[4] and cmsgpack.unpack(got[4])
	if now < meta.last - STEP or row and gen == meta.gen and seq > row[1] + 1 then
		meta, row = new(meta), nil
	end
else
	meta = new()
end
local gone = {} -- fields that are not kept
local function save(more)
	local ttl = 2 * (KEEP + math.max(meta.pause - now, 0))
	for _, l in ipairs(limits) do ttl = math.max(ttl, l.ttl or 0, 2 * ((l.d or 0) - now + l.per)) end
	if meta.expires < now + ttl / 2 or meta.expires > now + 2 * ttl then meta.expires = now + ttl else ttl = 0 end
	if now - meta.last > 1000000 then meta.last = now end
	local m = cmsgpack.pack({meta.gen, meta.last, meta.epoch, meta.pause, meta.c1, meta.c2, meta.c3, meta.v, meta.expires, meta.swept, meta.ids, meta.asker, meta.shared})
	if m ~= got[1] then
		more[#more + 1] = 'm'
		more[#more + 1] = m
	end
	if #more > 0 then redis.call('HSET', key, unpack(more)) end
	if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
	if ttl > 0 then redis.call('PEXPIRE', key, math.ceil(ttl / 1000)) end
end
if gen ~= 0 and gen ~= meta.gen or row and seq < row[1] then
	save({})
	return {1, meta.gen, now}
end
if not row then -- it comes for the first time
	local all = got[5] and cmsgpack.unpack(got[5]) or {}
	all[#all + 1] = me
	got[5] = cmsgpack.pack(all)
	redis.call('HSET', key, 'a', got[5])
end
local again = row and seq == row[1] -- it is told a second time, and is granted what it was
row = row or {0, now, 0, 0, 0, {}}

-- Who was away for so long that nothing was heard of anybody is not dead.
if now - meta.last > lease / 2 then meta.epoch = now end
local holders = slots and got[3] and cmsgpack.unpack(got[3]) or {}
for id, h in pairs(holders) do
	if now - math.max(h[1], meta.epoch) > lease then holders[id] = nil end
end

-- A limit as it is in force: the lowest that a living process is configured with,
-- and no more than the server has stated last.
local function load(l, packed)
	local f = packed and cmsgpack.unpack(packed) or {-1, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, now, 0}
	l.conf, l.confseen, l.told, l.toldseen, l.rule, l.burst, l.live, l.base, l.top, l.s, l.e, l.d, l.ramp, l.expires, l.every, l.freed, l.epoch = unpack(f, 1, 17)
	l.days = l.id:sub(-2) == ':1' and (f[18] or {}) or nil
	if now - l.confseen > KEEP then l.conf = -1 end
	if now - l.toldseen > KEEP then l.told = -1 end
end
local function pack(l)
	return cmsgpack.pack({l.conf, l.confseen, l.told, l.toldseen, l.rule, l.kept, l.live, l.base, l.top, l.s, l.e, l.d, l.ramp, l.expires, l.every, l.freed, l.epoch, l.days})
end
local function derive(l)
	l.n = l.conf
	if l.told >= 0 and (l.n < 0 or l.told < l.n) then l.n = l.told end
	l.kept, l.burst = l.burst, l.burst
	if l.burst == 0 or l.burst > l.n then l.burst = l.n end
	local span = math.ceil(l.per * (1 + DRIFT))
	l.gap = span / math.max(l.n, 1)
	if l.rule == STEADY then
		l.span, l.grain = 0, 15625
	else
		l.span, l.grain = span, math.max(math.ceil(l.per / SLOTS), GRAIN)
	end
	l.size = math.ceil((l.span + FLIGHT + AHEAD) / l.grain) + 4
	l.ttl = 2 * (span + FLIGHT + AHEAD + KEEP)
end
local function claim(l)
	local conf, told, news, set, epoch, rule, burst = unpack(l.own)
	local was = l.rule
	if set == 1 then -- it holds for those who were configured before
		epoch, l.epoch, l.conf = now, now, -1
	end
	if conf >= 0 and (l.conf < 0 or conf < l.conf and epoch >= l.epoch) then
		l.conf, l.confseen, l.rule, l.burst = conf, now, rule, burst
	elseif conf == l.conf and now - l.confseen > KEEP / 8 then
		l.confseen = now
	end
	if told >= 0 and (news == 1 or l.told < 0) then
		l.told, l.toldseen = told, now
		if l.conf < 0 then l.rule, l.burst = rule, burst end
	elseif told == l.told and now - l.toldseen > KEEP / 8 then
		l.toldseen = now
	end
	derive(l)
	if was ~= 0 and (was == STEADY) ~= (l.rule == STEADY) then -- what was spent by the one rule is by the other
		local n = l.live + (was == STEADY and debt(l, l.e) or 0)
		reset(l, n)
	end
end

local active, known = {}, {}
for i, l in ipairs(limits) do
	load(l, got[i + 5])
	claim(l)
	refresh(l)
	known[l.id] = true
	if l.n >= 0 then active[#active + 1] = l end
	if l.per == 0 then
		local h = holders[me]
		local was = h and h[2][l.id] or 0
		if again then l.mine = was end
		if was > l.mine then
			local each = math.min((now - l.freed) / (was - l.mine), 1000000)
			l.every, l.freed = l.every == 0 and each or l.every * 0.8 + each * 0.2, now
		end
		l.held = l.mine
		for id, h in pairs(holders) do
			if id ~= me then l.held = l.held + (h[2][l.id] or 0) end
		end
	end
end

for _ = 1, arg() do
	local event, l, n, from, to, x = arg(), limits[arg() + 1], arg(), arg(), arg(), arg()
	if again then -- it is known
	elseif event == PAUSE then
		meta.pause = math.max(meta.pause, to)
	elseif event == CLOCK then -- a Date is cut off to whole seconds, and was made between the two
		local lo, hi = x - to, x + 1000000 - from
		if meta.c3 > 0 then
			local was, is = bounds()
			if math.max(lo, was) <= math.min(hi, is) then lo, hi = math.max(lo, was), math.min(hi, is) end
		end
		meta.c1, meta.c2, meta.c3 = lo, hi, now
	elseif l.per == 0 and event ~= DRAIN or l.n < 0 then -- they are held, not spent
	elseif event == MOVE then
		move(l, n, from, to)
	elseif event == DRAIN then
		if to > l.d then
			l.d, l.ramp = to, 0
			if x == 0 and l.n > 0 and l.per > 0 then l.ramp = to + (l.n - 1) * l.gap end
		end
	elseif event == LEVEL then
		if l.rule == STEADY then n = n + math.floor(math.max(now - to, 0) / l.gap) end
		local more = free(l) - n
		if more > l.n / 100 then move(l, more, 0, now) end
	end
end

-- Those who wait take turns by start-time fair queuing: the tag of a request is what
-- its process has had before, in parts of the limit that is the most of. Who comes
-- anew begins where the others are. Who was due and has not come is forgotten.
local waiters, rivals, slowest = got[2] and cmsgpack.unpack(got[2]) or {}, {}, math.huge
local was = waiters[me]
for id, w in pairs(waiters) do
	if id == me then -- it is judged anew
	elseif now > w[2] + (w[3] == 0 and RECENT or grace) then
		waiters[id] = nil
	elseif w[3] == 0 then
		if not (was and was[8] and w[2] < was[8]) and now <= w[2] + RECENT / 10 then slowest = math.min(slowest, w[1]) end
	else
		rivals[#rivals + 1] = {id = id, tag = w[1], k = w[3], phi = w[4], c = {w[5], w[6], w[7]}}
	end
end
waiters[me] = nil

local function weight(c)
	local most, days = 0, 0
	for _, l in ipairs(active) do
		local part = math.min(c[l.unit + 1] / math.max(l.n, 1), 1)
		if l.per < DAY then most = math.max(most, part) else days = math.max(days, part) end
	end
	if most == 0 then most = days end
	return math.max(most, 1e-9)
end

-- before sums up what others take whose turn is before a tag.
local function before(tag)
	local sum, count = {0, 0, 0}, 0
	for _, w in ipairs(rivals) do
		local d = (tag - w.tag) / w.phi
		local k = w.id < me and math.floor(d + 1e-6) + 1 or math.ceil(d - 1e-6)
		k = math.min(math.max(k, 0), w.k)
		if k > 0 then
			count = count + 1
			for u = 1, 3 do sum[u] = sum[u] + k * w.c[u] end
		end
	end
	return sum, count
end

local asks, tags, granted, wait, dues = {}, {}, 0, 0, {}
for _ = 1, arg() do
	local n, c = arg(), {arg(), arg(), arg()}
	for _ = 1, n do asks[#asks + 1] = c end
end
if again then
	granted, dues = row[5], row[6]
elseif #asks > 0 then
	local lead, phi, last, long = 0, weight(asks[1]), asks[1], 0
	local slack = math.max(2 * phi, 1 / 64) -- that processes may be apart
	tags[1] = math.max(meta.v, row[3])
	for i, c in ipairs(asks) do
		if c ~= last then phi, last = weight(c), c end
		tags[i + 1] = tags[i] + phi
	end
	for _, l in ipairs(active) do
		local sum, most = 0, math.max(l.n, 1)
		l.pre = {}
		for i, c in ipairs(asks) do
			l.pre[i] = sum
			sum = sum + math.min(c[l.unit + 1], most)
		end
		l.pre[#asks + 1] = sum
		if l.per == 0 then lead = LEAD * phi end
		if l.per < DAY then long = math.max(long, l.per / 4) end
	end
	-- when is when the i-th ask has its tokens, after those of others, and whether
	-- that is certain.
	local function when(i, others)
		local t, sure = math.max(now, meta.pause), true
		for _, l in ipairs(active) do
			local c = l.pre[i + 1] - l.pre[i]
			if c > 0 then
				if l.n <= 0 then return now + DAY, false end
				local x, certain = ready(l, l.pre[i] + others[l.unit + 1], c)
				t, sure = math.max(t, x), sure and certain
			end
		end
		return t, sure
	end
	local most = slowest + slack
	local function could(i)
		if tags[i] > most then return false end
		local t, sure = when(i, before(tags[i] - lead))
		return sure and t <= now + ahead
	end
	if could(#asks) then
		granted = #asks
	elseif #asks > 1 then
		local hi = #asks - 1
		while granted < hi do
			local mid = math.ceil((granted + hi) / 2)
			if could(mid) then granted = mid else hi = mid - 1 end
		end
	end
	local due
	if granted < #asks then
		local sum, count = before(tags[granted + 1])
		due = when(granted + 1, sum)
		if due <= now and tags[granted + 1] > most then due = now + HOLD end
		if asks[granted + 1][2] + asks[granted + 1][3] > 0 then due = math.min(due, now + SHORT * (count + 1)) end
		due = math.max(due, now + 1000)
		wait = due - now
	end
	if granted > 0 then
		-- Those that are granted come first: a bucket does not keep room before them.
		local none = {0, 0, 0}
		if when(granted, none) > now then
			for i = 1, granted do dues[i] = math.ceil(when(i, none) - now) end
		end
		for _, l in ipairs(active) do
			if #dues == 0 then
				if l.pre[granted + 1] > 0 then take(l, now, l.pre[granted + 1]) end
			else
				for i = 1, granted do
					local c = l.pre[i + 1] - l.pre[i]
					if c > 0 then take(l, now + dues[i], c) end
				end
			end
		end
	end
	row[3] = tags[granted + 1]
	if meta.asker ~= me then meta.asker, meta.shared = me, now end
	if due then
		local c, least = asks[granted + 1], math.huge
		for _, w in ipairs(rivals) do least = math.min(least, w.tag) end
		if least < math.huge and not (was and was[3] > 0) and long > 0 and due > now + long then
			row[3] = math.min(math.max(row[3], least), least + slack) -- what there was is gone: nobody owes for it
		end
		waiters[me] = {row[3], due, #asks - granted, tags[granted + 2] - tags[granted + 1], c[1], c[2], c[3], now}
	elseif now - meta.shared < 1000000 then -- others ask as well
		waiters[me] = {row[3], now, 0}
	end
	local least = math.huge
	for _, w in pairs(waiters) do least = math.min(least, w[1]) end
	meta.v = math.max(meta.v, least < math.huge and least or row[3])
end

-- The reply, and what is kept.
if not again then row[1], row[4], row[5], row[6] = seq, now, granted, dues end
row[2] = now
local reply = {0, meta.gen, now, row[4], granted, wait, math.max(meta.pause - now, 0), #rivals, #dues}
local function add(n) reply[#reply + 1] = math.ceil(n) end
for _, d in ipairs(dues) do add(d) end
add(#limits)
local more, mine = {'p' .. me, cmsgpack.pack(row)}, nil
for i, l in ipairs(limits) do
	add(l.n) add(l.conf) add(l.epoch) add(l.rule) add(l.kept)
	add(free(l))
	add(full(l) - now)
	add(math.max(l.d - now, 0))
	local all = detail == 1 and l.per > 0 and l.rule ~= STEADY and list(l) or {}
	local every = math.ceil(#all / 16)
	add(every > 0 and math.ceil(#all / every) or 0)
	for k = every, #all + every - 1, math.max(every, 1) do
		local x = all[math.min(k, #all)]
		add(x[1] - now) add(x[2])
	end
	if l.per == 0 and l.mine > 0 then
		mine = mine or {}
		mine[l.id] = l.mine
	end
	if not got[i + 5] then meta.ids[#meta.ids + 1] = l.id end
	local packed = pack(l)
	if packed ~= got[i + 5] then
		more[#more + 1] = 'l' .. l.id
		more[#more + 1] = packed
	end
end

-- Limits of others hold for everyone, while one lives that is configured with them.
local others = {}
if #meta.ids > #limits then
	local ids = {}
	for _, id in ipairs(meta.ids) do
		local packed = not known[id] and redis.call('HMGET', key, 'l' .. id)[1]
		if packed then
			local l = {id = id}
			load(l, packed)
			local unit, per = id:match('^(%d+):(%d+):')
			l.unit, l.per = tonumber(unit), tonumber(per)
			derive(l)
			if l.n >= 0 then
				others[#others + 1] = l
			elseif now - math.max(l.confseen, l.toldseen) > math.max(l.ttl, l.d - now) then
				gone[#gone + 1] = 'l' .. id
				id = nil
			end
		elseif not known[id] then
			id = nil
		end
		ids[#ids + 1] = id
	end
	meta.ids = ids
end
add(#others)
for _, l in ipairs(others) do add(l.unit) add(l.n) add(l.per) add(l.rule) add(l.kept) add(l.conf) end

local function keep(field, t, was)
	local packed = next(t) and cmsgpack.pack(t)
	if packed and packed ~= was then
		more[#more + 1] = field
		more[#more + 1] = packed
	elseif not packed and was then
		gone[#gone + 1] = field
	end
end
keep('w', waiters, got[2])
if slots then
	holders[me] = mine and {now, mine} or nil
	keep('h', holders, got[3])
end
if now - meta.swept > SWEEP then
	meta.swept = now
	local left, all = {}, got[5] and cmsgpack.unpack(got[5]) or {}
	for _, id in ipairs(all) do
		local packed = id ~= me and redis.call('HMGET', key, 'p' .. id)[1]
		if packed and now - cmsgpack.unpack(packed)[2] > 2 * SWEEP then
			gone[#gone + 1] = 'p' .. id
		elseif packed or id == me then
			left[#left + 1] = id
		end
	end
	keep('a', left, got[5])
end
save(more)
return reply
