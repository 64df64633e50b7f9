package move

import (
	"context"
	"time"
)

// pace keeps an import from being faster than it may be.
type pace struct {
	now      func() time.Time
	wait     func(context.Context, time.Duration) error
	bytes    float64 // a second; 0: no limit
	messages float64
	next     time.Time // when what has been read would be over
}

func newPace(o *Options, a Advice) pace {
	p := pace{now: o.Now, wait: o.Wait, bytes: float64(o.Choice.Bytes), messages: o.Choice.Messages}
	if p.bytes == 0 {
		p.bytes = float64(a.Bytes)
	}
	if p.messages == 0 {
		p.messages = a.Messages
	}
	return p
}

// after waits when a message of so many bytes has been read.
func (p *pace) after(ctx context.Context, bytes int64) error {
	if p.bytes == 0 && p.messages == 0 {
		return nil
	}
	var d float64
	if p.bytes > 0 {
		d = float64(bytes) / p.bytes
	}
	if p.messages > 0 {
		d = max(d, 1/p.messages)
	}
	now := p.now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(d * float64(time.Second)))
	const least = 10 * time.Millisecond // of which a timer is worth it
	if ahead := p.next.Sub(now); ahead >= least {
		return p.wait(ctx, ahead)
	}
	return nil
}
