package refill

import "time"

// days is the rule of a limit that is back at midnight where the API is. What
// was spent is kept by the end of its day, by the server's clock: that stays
// right whatever happens to clocks in between.
type days struct {
	n     int64
	clock *Clock
	held  int64
	spent []entry // by the end of its day; at is the server's time
}

func (d *days) resize(_ time.Duration, l Limit) { d.n = l.N }

// expire forgets the days that are over by every clock within the bounds.
func (d *days) expire(now time.Duration) {
	lo, _ := d.clock.bounds(now)
	for len(d.spent) > 0 && d.spent[0].at <= now+lo {
		d.spent = d.spent[1:]
	}
}

func (d *days) live() (n int64) {
	for _, s := range d.spent {
		n += s.n
	}
	return n
}

func (d *days) free(now time.Duration) int64 {
	d.expire(now)
	return d.n - d.held - d.live()
}

func (d *days) ready(now time.Duration, n int64) time.Duration {
	return d.whenBack(now, n-d.free(now), Never)
}

func (d *days) whenBack(now time.Duration, n int64, unknown time.Duration) time.Duration {
	if n <= 0 {
		return now
	}
	lo, _ := d.clock.bounds(now)
	for _, s := range d.spent {
		if n -= s.n; n <= 0 {
			return s.at - lo
		}
	}
	return unknown
}

func (d *days) turn(now time.Duration, n int64) time.Duration {
	if d.n <= 0 {
		return Never
	}
	free := d.free(now)
	if n <= free {
		return now
	}
	rounds := (n - 1) / d.n
	at := d.whenBack(now, n-rounds*d.n-free, d.clock.back(now, now, Day))
	if rounds > int64((Never-at)/Day) {
		return Never
	}
	return at + time.Duration(rounds)*Day
}

func (d *days) full(now time.Duration) time.Duration {
	d.expire(now)
	switch last := len(d.spent) - 1; {
	case d.held > 0:
		return d.clock.back(now, now, Day)
	case last >= 0:
		return d.whenBack(now, d.live(), Never)
	}
	return now
}

func (d *days) take(_ time.Duration, n int64)   { d.held += n }
func (d *days) put(n int64)                     { d.held -= n }
func (d *days) spend(at time.Duration, n int64) { d.held -= n; d.book(d.clock.Day(at), n) }

// book counts n more tokens as spent on the day that ends at the given time of
// the server.
func (d *days) book(end time.Duration, n int64) {
	i := 0
	for i < len(d.spent) && d.spent[i].at < end {
		i++
	}
	if i == len(d.spent) || d.spent[i].at != end {
		if n <= 0 {
			return
		}
		d.spent = append(d.spent[:i:i], append([]entry{{end, 0}}, d.spent[i:]...)...)
	}
	d.spent[i].n = max(0, d.spent[i].n+n)
}

func (d *days) settle(now, at time.Duration, n int64) {
	if at == Never {
		at = now
	}
	d.expire(now)
	if end := d.clock.Day(at); end > now {
		d.book(end, n)
	}
}

// over has what was spent until now back at the given time of the server, if not
// before.
func (d *days) over(at time.Duration) {
	kept, n := d.spent[:0], int64(0)
	for _, s := range d.spent {
		if s.at <= at {
			kept = append(kept, s)
		} else {
			n += s.n
		}
	}
	if d.spent = kept; n > 0 {
		d.book(at, n)
	}
}

func (d *days) shift(time.Duration) {} // by the server's clock already
