package imapsource

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move/imapc"
)

// How long is waited before the next try: doubled each time, and begun anew when there was
// progress.
const (
	firstPause    = time.Second      // after a lost connection
	firstThrottle = 30 * time.Second // when the server asked for it
	longestPause  = 30 * time.Minute
)

// backoff counts the tries without progress.
type backoff struct {
	tries  int
	waited time.Duration
}

// again waits before the next try, or returns why there is none.
func (s *Source) again(ctx context.Context, b *backoff, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	pause := firstPause
	p := imapc.ProblemOf(err)
	switch p {
	case imapc.Lost, imapc.Timeout, imapc.Refused, imapc.NoHost:
		if !s.reached && (p != imapc.Lost || b.tries == 4) { // the name or the port is wrong, or there is no network
			return err
		}
		if b.tries == 0 && p == imapc.Lost {
			pause = 0
		}
	case imapc.Throttled:
		pause = firstThrottle
	default:
		return err
	}
	pause = min(pause<<min(b.tries, 12), longestPause)
	if b.waited += pause; b.waited > s.opt.Patience {
		return err
	}
	b.tries++
	if pause == 0 {
		return nil
	}
	s.tell(fmt.Sprintf("%s; going on in %v", fault.Say(err), pause))
	if err := s.opt.Wait(ctx, pause); err != nil {
		return err
	}
	s.tell("")
	return nil
}

func (s *Source) tell(state string) {
	if state != s.state {
		s.state = state
		s.opt.Tell(state)
	}
}

// connection returns a client that is signed in.
func (s *Source) connection(ctx context.Context) (*imapc.Client, error) {
	if s.c != nil && s.c.Dead() == nil {
		return s.c, nil
	}
	if s.c != nil {
		s.c.Close()
		s.c = nil
	}
	c, err := imapc.Dial(ctx, s.opt.IMAP)
	if err != nil {
		return nil, err
	}
	cred, err := s.opt.Credentials(ctx)
	if err == nil {
		err = c.Login(ctx, cred)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	s.c, s.reached = c, true
	s.gmail = c.Capable("X-GM-EXT-1")
	return c, nil
}

// with runs fn on a connection, and again on a new one if it broke or the server asked to
// wait. fn is to be such that it may be run again; progress tells whether it came further.
func (s *Source) with(ctx context.Context, fn func(*imapc.Client) error, progress func() bool) error {
	var b backoff
	for {
		c, err := s.connection(ctx)
		if err == nil {
			if err = fn(c); err == nil {
				return nil
			}
			if f, ok := errors.AsType[final](err); ok {
				return f.error
			}
			if progress != nil && progress() {
				b = backoff{}
			}
		}
		if imapc.ProblemOf(err) == imapc.Throttled && s.c != nil {
			s.c.Close() // those who count connections count this one too
			s.c = nil
		}
		if err := s.again(ctx, &b, err); err != nil {
			return err
		}
	}
}

// Reach connects and signs in, if that is not done.
func (s *Source) Reach(ctx context.Context) error {
	return s.once(ctx, func(*imapc.Client) error { return nil })
}

// once is with, without a look at progress.
func (s *Source) once(ctx context.Context, fn func(*imapc.Client) error) error {
	return s.with(ctx, fn, nil)
}

// meter holds reading to so many bytes a day.
type meter struct {
	total int64 // bytes read in all
	today int64
}

const gmailHost = "imap.gmail.com"

const gmailBytesPerDay = 2400 << 20 // of the 2,500 MB that Google states for IMAP downloads

// spend counts n bytes that were read and waits when a day's share is used up: it is not
// known when the provider's day began, so an hour is waited for the share of an hour.
func (s *Source) spend(ctx context.Context, n int64) error {
	s.limit.total += n
	allowed := s.opt.BytesPerDay
	if allowed == 0 && s.gmail && s.opt.IMAP.Host == gmailHost {
		allowed = gmailBytesPerDay
	}
	if allowed <= 0 {
		return nil
	}
	s.limit.today += n
	for s.limit.today >= allowed {
		s.tell(fmt.Sprintf("%s allows %d MB a day, which are read; going on within the hour", s.opt.IMAP.Host, allowed>>20))
		if err := s.opt.Wait(ctx, time.Hour); err != nil {
			return err
		}
		s.limit.today -= max(allowed/24, 1)
	}
	s.tell("")
	return nil
}
