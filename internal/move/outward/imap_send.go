package outward

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
)

// Bounds of what waits to be sent at once.
const (
	sendMessages = 100
	sendBytes    = 4 << 20
)

// sender takes a mailbox to the server.
type sender struct {
	*serverRun
	to      move.Mailbox
	result  *Result
	have    map[like][]present // at the server, not taken by any of ours yet
	all     map[like]int       // how many are at the server, as far as is known
	own     map[like][]string  // keys of those that were sent now
	waiting []*letterOut
	held    int64
	missing map[flagSet][]string // keys of messages by the flags that they lack
}

type flagSet struct {
	flags    mail.Flags
	keywords string
}

// claim takes a message that is at the server for one of ours.
func (v *sender) claim(k like, it move.Item) bool {
	list := v.have[k]
	if len(list) == 0 {
		return false
	}
	p := list[0]
	if len(list) == 1 {
		delete(v.have, k)
	} else {
		v.have[k] = list[1:]
	}
	lacks := flagSet{flags: it.Flags &^ p.flags}
	var words []string
	for _, w := range it.Keywords {
		if !slices.ContainsFunc(strings.Fields(p.keywords), func(h string) bool { return strings.EqualFold(h, w) }) {
			words = append(words, w)
		}
	}
	if lacks.keywords = joined(words); lacks != (flagSet{}) {
		if v.missing == nil {
			v.missing = map[flagSet][]string{}
		}
		v.missing[lacks] = append(v.missing[lacks], p.key)
	}
	return true
}

// Want chooses what is not at the server.
func (v *sender) Want(ctx context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i, it := range items {
		v.result.Messages++
		v.result.Bytes += it.Size
		if it.Broken != "" {
			if err := v.Skip(ctx, it, fault.New(fault.Corrupt, it.Broken)); err != nil {
				return nil, err
			}
			continue
		}
		if want[i] = !v.claim(likeOf(it.MessageID, it.Size, it.Date), it); !want[i] {
			v.done.Messages++
		}
	}
	v.tell()
	return want, nil
}

func (v *sender) tell() {
	if v.Progress != nil {
		v.done.Mailbox = v.result.Mailbox
		v.Progress(v.done)
	}
}

// Put takes a message along.
func (v *sender) Put(ctx context.Context, it move.Item, r io.Reader) error {
	l := &letterOut{item: it}
	if err := l.text.read(v.Spool, r); err != nil {
		return err
	}
	l.item.Keywords = slices.Clone(it.Keywords)
	l.like = l.asThere()
	if l.like != likeOf(it.MessageID, it.Size, it.Date) && v.claim(l.like, it) {
		l.text.close()
		v.done.Messages++
		return nil
	}
	v.waiting = append(v.waiting, l)
	if v.held += l.text.size; len(v.waiting) < sendMessages && v.held < sendBytes {
		return nil
	}
	return v.flush(ctx)
}

// Skip notes what cannot be had.
func (v *sender) Skip(_ context.Context, it move.Item, why error) error {
	v.done.Messages++
	if fault.Is(why, fault.NotFound) {
		v.result.Messages--
		v.result.Bytes -= it.Size
		return nil
	}
	v.refuse(it.UID, fault.Say(why))
	return nil
}

func (v *sender) refuse(uid mail.UID, why string) {
	v.result.Skipped++
	if len(v.report.Skipped) < MaxSkips {
		v.report.Skipped = append(v.report.Skipped, Skip{v.result.Mailbox, uid, why})
	}
}

func (v *sender) Gone(context.Context, []string) error { return nil }
func (v *sender) State(context.Context, []byte) error  { return nil }

// flush sends what waits. If the connection breaks nobody knows what has arrived: it is
// looked for before the rest is sent again.
func (v *sender) flush(ctx context.Context) error {
	defer func() {
		for _, l := range v.waiting {
			l.text.close()
		}
		v.waiting, v.held = nil, 0
	}()
	for try := 0; len(v.waiting) > 0; try++ {
		err := v.send(ctx, v.waiting)
		if err == nil {
			return nil
		}
		if p := imapc.ProblemOf(err); try == tries || ctx.Err() != nil || p != imapc.Lost && p != imapc.Timeout && p != imapc.Throttled && p != imapc.Refused {
			return err
		}
		if err := v.Wait(ctx, time.Second<<try); err != nil {
			return err
		}
		if err := v.arrived(ctx); err != nil {
			return err
		}
	}
	return nil
}

// arrived looks which of those that wait are at the server: there are more like them than were
// known.
func (v *sender) arrived(ctx context.Context) error {
	have, all := v.have, v.all
	err := v.look(ctx)
	now := v.all
	v.have, v.all = have, all
	if err != nil {
		return err
	}
	v.waiting = slices.DeleteFunc(v.waiting, func(l *letterOut) bool {
		if now[l.like] <= v.all[l.like] {
			return false
		}
		v.arrive(l)
		return true
	})
	return nil
}

func (v *sender) arrive(l *letterOut) {
	l.text.close()
	v.all[l.like]++
	v.result.Added++
	v.done.Messages++
	v.done.Bytes += l.item.Size
	v.tell()
}

// send appends messages. In one command all or none are taken: after a refusal each goes
// alone, to see which is meant.
func (v *sender) send(ctx context.Context, list []*letterOut) error {
	var out []imapc.Appending
	var ids []string
	for _, l := range list {
		out = append(out, imapc.Appending{Flags: l.item.Flags, Keywords: l.item.Keywords, Date: l.item.Date, Size: l.text.size + l.text.bare, Body: l.body()})
		ids = append(ids, "")
	}
	done, err := v.Server.Append(ctx, v.to.Source, out, ids)
	if err != nil {
		return err
	}
	for i, l := range list {
		var refused error
		if i < len(done) {
			refused = done[i].Err
		}
		switch {
		case refused == nil:
			if v.own == nil {
				v.own = map[like][]string{}
			}
			v.own[l.like] = append(v.own[l.like], done[i].Key)
			v.drop(l)
			v.arrive(l)
		case len(list) > 1:
			if err := v.send(ctx, []*letterOut{l}); err != nil {
				return err
			}
		default:
			v.drop(l)
			l.text.close()
			v.done.Messages++
			v.refuse(l.item.UID, "the server refuses it: "+fault.Say(refused))
		}
	}
	return nil
}

// drop takes a message off those that wait.
func (v *sender) drop(l *letterOut) {
	v.waiting = slices.DeleteFunc(slices.Clone(v.waiting), func(w *letterOut) bool { return w == l })
}

// flags sets flags that messages have here and not at the server.
func (v *sender) flags(ctx context.Context) error {
	for lacks, keys := range v.missing {
		for part := range slices.Chunk(keys, 500) {
			if err := v.Server.SetFlags(ctx, v.to.Source, part, imapc.AddFlags, lacks.flags, strings.Fields(lacks.keywords)); err != nil {
				return err
			}
			v.result.Reflagged += int64(len(part))
		}
	}
	v.missing = nil
	return nil
}

// untwin takes back what was sent twice. What a run that was killed had sent last may have
// become mail only after this run looked. Then there is one more than is known of a message
// that was sent now, and what was sent now goes.
func (v *sender) untwin(ctx context.Context) error {
	if len(v.own) == 0 {
		return nil
	}
	known := v.all
	if err := v.look(ctx); err != nil {
		return err
	}
	var twins []string
	for k, keys := range v.own {
		for _, key := range keys[:max(0, min(len(keys), v.all[k]-known[k]))] {
			if key != "" {
				twins = append(twins, key)
			}
		}
	}
	if len(twins) == 0 {
		return nil
	}
	return v.Server.Delete(ctx, v.to.Source, twins, false)
}
