package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

const (
	firstPause = 50 * time.Millisecond
	mostPause  = 2 * time.Second
	leastStall = 2 * time.Second
)

var errStall = errors.New("the object store makes no sign of life")

// attempt is one request. Its context ends when nothing moves any more.
type attempt struct {
	context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func (b *Bucket) begin(ctx context.Context) *attempt {
	// Who has little patience is not kept waiting by one request for longer.
	a := &attempt{stall: min(b.opt.Stall, max(engine.Patience(ctx, b.opt.Patience), leastStall))}
	a.Context, a.cancel = context.WithCancelCause(ctx)
	a.timer = time.AfterFunc(a.stall, func() { a.cancel(errStall) })
	return a
}

// alive says that something has moved.
func (a *attempt) alive() { a.timer.Reset(a.stall) }

// rest says that it is not the object store that is waited for until alive is called.
func (a *attempt) rest() { a.timer.Stop() }

func (a *attempt) end() {
	a.timer.Stop()
	a.cancel(nil)
}

// why is the error of a request, or what ended it.
func (a *attempt) why(err error) error {
	if err != nil && context.Cause(a.Context) == errStall {
		return errStall
	}
	return err
}

// patience is the time that is left to try again.
type patience struct {
	b     *Bucket
	ctx   context.Context
	out   *time.Timer
	pause time.Duration
}

func (b *Bucket) patience(ctx context.Context) *patience {
	return &patience{b, ctx, time.NewTimer(engine.Patience(ctx, b.opt.Patience)), b.opt.pause}
}

func (p *patience) end() { p.out.Stop() }

// again tells whether to try once more after an error, and waits before that.
func (p *patience) again(err error) bool {
	if p.ctx.Err() != nil || !passing(err) {
		return false
	}
	// Between half of the pause and all of it, so that those who failed together do not
	// come again together.
	wait := time.NewTimer(p.pause/2 + time.Duration(p.b.opt.Rand()*float64(p.pause/2)))
	defer wait.Stop()
	p.pause = min(2*p.pause, mostPause)
	select {
	case <-p.ctx.Done():
		return false
	case <-p.out.C:
		return false
	case <-wait.C:
		p.b.n.retries.Add(1)
		return true
	}
}

// retry runs fn until it succeeds, fails for good, or patience is at an end.
func (b *Bucket) retry(ctx context.Context, fn func(*attempt) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := b.patience(ctx)
	defer p.end()
	for {
		a := b.begin(ctx)
		err := a.why(fn(a))
		a.end()
		if err == nil || !p.again(err) {
			return b.failed(ctx, err)
		}
	}
}

// passing tells whether the same request may succeed later.
func passing(err error) bool {
	var e minio.ErrorResponse
	if !errors.As(err, &e) {
		return !errors.As(err, new(x509.UnknownAuthorityError)) && !errors.As(err, new(x509.HostnameError)) && !errors.As(err, new(*fault.Error))
	}
	switch {
	case e.StatusCode >= 500 || e.StatusCode < 400:
		return true
	case e.StatusCode == http.StatusRequestTimeout || e.StatusCode == http.StatusTooManyRequests || e.StatusCode == http.StatusConflict:
		return true
	}
	// A request that was damaged on its way, or came too slowly.
	return slices.Contains([]string{"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch", "ContentSHA256Mismatch", "SlowDown", "OperationAborted"}, e.Code)
}

// failed gives an error its kind.
func (b *Bucket) failed(ctx context.Context, err error) error {
	var e minio.ErrorResponse
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, new(*fault.Error)):
		return err
	case !errors.As(err, &e):
	case e.Code == minio.NoSuchKey:
		return fault.Wrap(fault.NotFound, "there is no such object", err)
	case e.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return fault.Wrap(fault.Invalid, "the range lies outside the object", err)
	case e.StatusCode >= 400 && e.StatusCode < 500:
		b.opt.Log.Error("the object store refuses a request", "endpoint", b.opt.Endpoint, "bucket", b.opt.Bucket, "code", e.Code, "err", err)
		return fault.Wrap(fault.Unavailable, "the object store refuses a request", err)
	}
	return fault.Wrap(fault.Unavailable, "the object store cannot be reached", err)
}
