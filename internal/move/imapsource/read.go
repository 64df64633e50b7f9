package imapsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
)

// How much is asked for at once, and how often.
const (
	ahead = 2 // windows whose facts are asked before they are needed
	tries = 3 // how often a message may break the connection before it is left out
)

// Read goes through a mailbox. See move.Source.
func (s *Source) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	box, err := s.box(ctx, m.Source)
	if err != nil {
		return err
	}
	r := &reading{s: s, box: box, source: m.Source, how: how, v: v, keep: m.UIDValidity != 0, role: m.Role}
	return s.with(ctx, func(c *imapc.Client) error { return r.run(ctx, c) }, r.moved)
}

// reading is a Read under way, over as many connections as it takes.
type reading struct {
	s   *Source
	box imapc.Mailbox

	source string
	how    move.Reading
	v      move.Visitor
	keep   bool
	role   mail.Role

	begun    bool
	validity uint32
	after    state // what Since is to be
	fresh    bool  // UIDVALIDITY is another than at the last reading
	windows  windows
	open     []*window // asked for or being read, in order
	steps    int       // progress since moved was called
	stop     error     // what the visitor said: no use to try again
}

// window is some messages that are told of together.
type window struct {
	uids  mail.UIDSet    // as they are asked for
	all   mail.UIDSet    // that there should be
	dense bool           // uids has no message that is not of the window
	asked *imapc.Pending // for the facts, on this connection
	items []move.Item
	uid   []mail.UID // of each item
	ready bool       // items are complete
	told  bool       // Want was asked
	todo  []bool     // wanted and not Put yet
	fails []uint8    // how often a message broke the connection
}

func (r *reading) moved() bool {
	moved := r.steps > 0
	r.steps = 0
	return moved
}

// run reads on from where it is, on a connection.
func (r *reading) run(ctx context.Context, c *imapc.Client) error {
	if r.stop != nil {
		return r.stop
	}
	if err := r.enter(ctx, c); err != nil {
		return err
	}
	for _, w := range r.open {
		w.asked = nil
	}
	for {
		r.ask(c)
		if len(r.open) == 0 {
			break
		}
		w := r.open[0]
		if err := r.facts(ctx, c, w); err != nil {
			return err
		}
		if err := r.bodies(ctx, c, w); err != nil {
			return err
		}
		r.open = r.open[1:]
		r.steps++
	}
	r.s.seen[r.source] = r.after
	return r.halt(r.v.State(ctx, r.after.encode()))
}

// final is an error of the visitor: nothing is tried again, whatever it is.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// halt keeps an error of the visitor.
func (r *reading) halt(err error) error {
	if err != nil && r.stop == nil {
		r.stop = final{err}
	}
	if err == nil {
		return nil
	}
	return r.stop
}

// ask asks for the facts of the next windows.
func (r *reading) ask(c *imapc.Client) {
	for len(r.open) <= ahead {
		w := r.windows.next()
		if w == nil {
			break
		}
		r.open = append(r.open, w)
	}
	for _, w := range r.open {
		if w.ready || w.asked != nil {
			continue
		}
		w.items, w.uid = w.items[:0], w.uid[:0]
		w.asked = c.StartFetch(r.query(w.uids), func(m *imapc.Message) error { r.fact(w, m); return nil })
	}
}

// fact takes what a server says of a message.
func (r *reading) fact(w *window, m *imapc.Message) {
	if m.UID == 0 || len(w.items) >= move.MaxItems {
		return
	}
	if n := len(w.uid); n > 0 && w.uid[n-1] >= m.UID && slices.Contains(w.uid, m.UID) {
		return // said twice
	}
	it := move.Item{Key: strconv.FormatUint(uint64(r.validity), 10) + "." + strconv.FormatUint(uint64(m.UID), 10),
		Size: m.Size, Flags: m.Flags, Date: m.Date, MessageID: m.MessageID}
	if len(m.Keywords) > 0 {
		it.Keywords = append([]string(nil), m.Keywords...)
	}
	if r.keep {
		it.UID = m.UID
	}
	if r.s.gmail && r.s.places != nil {
		r.s.label(&it, m)
	}
	if m.Size == 0 {
		it.Broken = "the server says that it is empty"
	}
	w.items, w.uid = append(w.items, it), append(w.uid, m.UID)
}

// facts waits for the facts of a window and asks which messages are wanted.
func (r *reading) facts(ctx context.Context, c *imapc.Client, w *window) error {
	if !w.ready {
		if err := c.Wait(ctx, w.asked); err != nil && (c.Dead() != nil || imapc.ProblemOf(err) == imapc.Throttled) {
			return err
		}
		w.asked = nil
		w.sort()
		if err := r.missing(ctx, c, w); err != nil {
			return err
		}
		w.ready = true
	}
	if w.told || len(w.items) == 0 {
		return nil
	}
	want, err := r.v.Want(ctx, w.items)
	if err != nil {
		return r.halt(err)
	}
	w.told, w.todo, w.fails = true, make([]bool, len(w.items)), make([]uint8, len(w.items))
	copy(w.todo, want)
	return nil
}

// missing asks once more for those of which nothing was said, one by one: they are gone, or
// the server refused all for one of them. What it refuses is told as broken.
func (r *reading) missing(ctx context.Context, c *imapc.Client, w *window) error {
	absent := minus(w.all, mail.SetOf(w.uid...))
	for len(absent) > 0 {
		part := absent[:min(len(absent), mostRanges)]
		if err := r.again(ctx, c, w, part); err != nil {
			return err
		}
		absent = absent[len(part):]
	}
	w.sort()
	if len(w.uid) < w.all.Len() {
		r.doubt()
	}
	return nil
}

// again asks for the facts of messages, and if that is refused of each.
func (r *reading) again(ctx context.Context, c *imapc.Client, w *window, absent mail.UIDSet) error {
	take := func(m *imapc.Message) error { r.fact(w, m); return nil }
	err := c.Fetch(ctx, r.query(absent), take)
	if err == nil || c.Dead() != nil || imapc.ProblemOf(err) == imapc.Throttled {
		return err
	}
	refused, had := 0, len(w.uid)
	for u := range absent.All() {
		n := len(w.uid)
		err := c.Fetch(ctx, r.query(mail.SetOf(u)), take)
		if c.Dead() != nil || imapc.ProblemOf(err) == imapc.Throttled {
			return err
		}
		if err != nil && len(w.uid) == n {
			r.fact(w, &imapc.Message{UID: u, Size: -1})
			w.items[n].Broken = fault.Say(err)
			if refused++; refused == 20 && len(w.uid) == had+refused { // it is not the messages
				return err
			}
		}
	}
	return nil
}

// query asks for the facts of messages.
func (r *reading) query(uids mail.UIDSet) imapc.Query {
	return imapc.Query{UIDs: uids, Flags: true, Date: true, Size: true, Gmail: r.s.gmail, MessageID: r.how.Plan || r.how.Identify || r.fresh}
}

// enter opens the mailbox and, the first time, finds out what is to be read.
func (r *reading) enter(ctx context.Context, c *imapc.Client) error {
	if !r.begun {
		if err := r.begin(ctx, c); err != nil {
			return err
		}
		r.begun = true
		return nil
	}
	sel, err := c.Select(ctx, r.box.Wire, imapc.Select{ReadOnly: true})
	if err != nil {
		return err
	}
	if sel.UIDValidity != r.validity {
		return r.halt(fault.Newf(fault.Unavailable, "the mailbox %s was made anew while it was read; begin again", r.box.Name))
	}
	return nil
}

// bodies reads what is wanted of a window by one command, as a rule, each message handed on as
// it comes. Several commands at once would not keep the order of messages: Dovecot answers
// them out of turn when its output blocks.
func (r *reading) bodies(ctx context.Context, c *imapc.Client, w *window) error {
	if !w.told {
		return nil
	}
	if c.UIDsLate() {
		return r.singly(ctx, c, w)
	}
	for next := 0; ; {
		p := r.batch(ctx, c, w, &next)
		if p == nil {
			break
		}
		if err := r.failed(c, c.Wait(ctx, p)); err != nil {
			return err
		}
	}
	return r.singly(ctx, c, w)
}

// failed tells whether an error ends this connection. A NO is looked at message by message.
func (r *reading) failed(c *imapc.Client, err error) error {
	switch {
	case r.stop != nil:
		c.Close()
		return r.stop
	case c.Dead() != nil:
		return c.Dead()
	case imapc.ProblemOf(err) == imapc.Throttled:
		return err
	}
	return nil
}

// batch asks for the bodies of the next messages that are wanted, nil if there are none.
func (r *reading) batch(ctx context.Context, c *imapc.Client, w *window, next *int) *imapc.Pending {
	var uids mail.UIDSet
	first, before := *next, -2
	for ; *next < len(w.items) && len(uids) < mostRanges; *next++ {
		i := *next
		if !w.todo[i] || w.fails[i] > 0 {
			continue
		}
		if w.dense && before == i-1 {
			uids[len(uids)-1].To = w.uid[i]
		} else {
			uids.Add(w.uid[i])
		}
		before = i
	}
	if uids.IsEmpty() {
		return nil
	}
	at := first
	return c.StartFetch(imapc.Query{UIDs: uids, Body: true}, func(m *imapc.Message) error {
		i := w.find(m.UID, at)
		if i < 0 {
			return nil
		}
		at = i + 1
		return r.put(ctx, c, w, i, m)
	})
}

// put hands a message on.
func (r *reading) put(ctx context.Context, c *imapc.Client, w *window, i int, m *imapc.Message) error {
	if !w.todo[i] || r.stop != nil {
		return nil
	}
	body := &watched{r: m.Body}
	err := r.v.Put(ctx, w.items[i], body)
	if body.err != nil { // of the connection, not of who reads
		w.fails[i]++
		return body.err
	}
	w.todo[i] = false
	r.steps++
	if err != nil {
		return r.halt(err)
	}
	return r.halt(r.s.spend(ctx, m.BodySize))
}

// watched remembers whether reading failed.
type watched struct {
	r   io.Reader
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// singly asks for those one by one that did not come in a batch: because the server refused
// it for one of them, or broke the connection in one, or says UIDs too late.
func (r *reading) singly(ctx context.Context, c *imapc.Client, w *window) error {
	for i := range w.todo {
		if !w.todo[i] {
			continue
		}
		if w.fails[i] >= tries {
			if err := r.skip(ctx, w, i, fmt.Errorf("the connection broke %d times within it", tries)); err != nil {
				return err
			}
			continue
		}
		came := false
		before := w.fails[i]
		err := c.Fetch(ctx, imapc.Query{UIDs: mail.SetOf(w.uid[i]), Body: true}, func(m *imapc.Message) error {
			came = true
			return r.put(ctx, c, w, i, m)
		})
		if stop := r.failed(c, err); stop != nil {
			if c.Dead() != nil && w.todo[i] && w.fails[i] == before {
				w.fails[i]++ // it broke before the first byte
			}
			return stop
		}
		if !w.todo[i] {
			continue
		}
		why := err
		if why == nil && !came {
			why = errors.New("the server gives no body of it: it is gone, or broken there")
		}
		if err := r.skip(ctx, w, i, why); err != nil {
			return err
		}
	}
	return nil
}

func (r *reading) skip(ctx context.Context, w *window, i int, why error) error {
	w.todo[i] = false
	r.steps++
	return r.halt(r.v.Skip(ctx, w.items[i], why))
}

// find returns the item with a UID, looking from at on first.
func (w *window) find(uid mail.UID, at int) int {
	if at < len(w.uid) && w.uid[at] == uid {
		return at
	}
	lo, hi := 0, len(w.uid)
	for lo < hi {
		if mid := (lo + hi) / 2; w.uid[mid] < uid {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(w.uid) && w.uid[lo] == uid {
		return lo
	}
	return -1
}
