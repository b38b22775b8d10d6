package limiter

import (
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
)

// Forecast returns in how long the last of n requests would be sent that came now and
// draw d each, behind those that wait; of those alone if n is 0; refill.Never: never,
// as far as is known. Under the lock it copies what is known, some of the queue at a
// time; it reckons without.
func Forecast(l *Limiter, n int, d estimate.Draw) time.Duration {
	now := l.lock()
	f, after := engine.Foresee(l.engine, now, int64(n), d)
	l.unlock(now)
	if f == nil {
		return after
	}
	for more := true; more; {
		f.Reserve()
		now = l.lock()
		more = f.Next(l.engine)
		l.unlock(now)
	}
	return f.Last(int64(n), d)
}
