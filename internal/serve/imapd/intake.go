package imapd

import (
	"context"
	"runtime/debug"
	"sync/atomic"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// arrival is a message of an APPEND. take makes of what was read what the store takes.
type arrival struct {
	ctx     context.Context
	form    imap.AppendMessage
	read    *store.Arrival
	message store.NewMessage
	err     error
}

func (a *arrival) take() {
	parcel, err := a.read.Take(a.ctx)
	if err == nil {
		if parcel, err = parcel.WithoutNUL(a.ctx); fault.Is(err, fault.Unsupported) {
			err = coded("UNKNOWN-CTE", err)
		}
	}
	if err != nil {
		a.err = notTakenIn(err)
		return
	}
	if !hasParts(parcel.Message().Root, a.form.Notes) {
		a.err = noPart()
		return
	}
	parcel.Prepare()
	a.message = store.NewMessage{
		Parcel: parcel, Flags: a.form.Flags.System, Keywords: a.form.Flags.Keywords, InternalDate: a.form.Date,
		Notes: noteChanges(a.form.Notes),
	}
}

// ahead is how many messages of one APPEND wait at most between being read and being
// taken in; each holds 64 KB meanwhile.
const ahead = 16

// intake takes in the messages of one APPEND. Of many, the ones before are parsed beside
// the reading of the next; one alone, and the last, is taken in where it was read.
type intake struct {
	list   []*arrival
	queue  chan *arrival // to the other goroutine, nil before there is one
	done   chan struct{} // closed when it has ended
	closed bool
	broken any         // what it panicked with
	vain   atomic.Bool // one could not be taken in, or nobody wants them any more
}

// add takes one more message, after which there may be more to read.
func (in *intake) add(a *arrival, more bool) {
	in.list = append(in.list, a)
	if !more {
		return
	}
	if in.queue == nil {
		in.queue, in.done = make(chan *arrival, ahead), make(chan struct{})
		go in.run()
	}
	select {
	case in.queue <- a:
	default: // the other one is behind
		in.take(a)
	}
}

func (in *intake) run() {
	defer close(in.done)
	defer func() {
		if v := recover(); v != nil {
			in.broken = panicked{v, debug.Stack()}
			for range in.queue { // nobody must wait for us
			}
		}
	}()
	for a := range in.queue {
		in.take(a)
	}
}

// take takes one message in, unless all is in vain.
func (in *intake) take(a *arrival) {
	if in.vain.Load() {
		return
	}
	if a.take(); a.err != nil {
		in.vain.Store(true)
	}
}

// failed returns why a message that was added could not be taken in, if that is known
// already: there is no need to read the others.
func (in *intake) failed() error {
	if !in.vain.Load() {
		return nil
	}
	in.close()
	for _, a := range in.list {
		if a.err != nil {
			return a.err
		}
	}
	return nil
}

// messages returns all messages, or why one of them cannot be taken in.
func (in *intake) messages() ([]store.NewMessage, error) {
	in.take(in.list[len(in.list)-1])
	in.end()
	if err := in.failed(); err != nil {
		return nil, err
	}
	list := make([]store.NewMessage, len(in.list))
	for i, a := range in.list {
		list[i] = a.message
	}
	return list, nil
}

// close ends the other goroutine; what it has not begun is not taken in.
func (in *intake) close() {
	in.vain.Store(true)
	in.end()
}

// end ends the other goroutine, once all is done.
func (in *intake) end() {
	if in.queue == nil || in.closed {
		return
	}
	in.closed = true
	close(in.queue)
	for a := range in.queue { // no need to wait for what the other has not begun
		in.take(a)
	}
	<-in.done
	if in.broken != nil {
		panic(in.broken)
	}
}
