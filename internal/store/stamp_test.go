package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/mail"
)

func recordsOf(t interface{ Fatal(...any) }, eng engine.Engine, shard engine.Shard) enginetest.Records {
	all, err := enginetest.RecordsOf(ctx, eng, shard)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// rows says what a picture shows.
func rows(p *Picture) (s string) {
	for seq, m := range p.Messages(All()) {
		s += fmt.Sprintf("%d: %+v\n", seq, m)
	}
	box := p.Mailbox()
	return s + fmt.Sprintf("%d %d %d %d", box.UIDNext, box.HighestModSeq, box.Messages, box.Unseen)
}

// A node whose delivery the database has lost, and to which another has given the same UID and
// modseq as to its own, shows the other's and does not write it over.
func TestSetBack(t *testing.T) {
	for _, attends := range []bool{false, true} {
		t.Run(fmt.Sprint("attends ", attends), func(t *testing.T) {
			all, nodes := worlds(t, 3)
			a, b, db := all[0], all[1], nodes[2]
			if attends {
				defer a.a.Attend()()
			}
			inbox := a.box(t, "INBOX").ID
			a.deliver(t, "INBOX", hello)
			before := recordsOf(t, db, a.a.shard)
			lost := a.deliver(t, "INBOX", "Subject: lost\r\n\r\nlost\r\n")
			held := a.picture(t, inbox)
			if err := before.SetBack(ctx, db, a.a.shard); err != nil {
				t.Fatal(err)
			}
			if other := b.deliver(t, "INBOX", "Subject: other\r\n\r\nof another, and longer\r\n"); other != lost {
				t.Fatalf("UIDs %d and %d: nothing is tried", lost, other)
			}
			last := a.deliver(t, "INBOX", hello)
			for i, w := range append(all[:2:2], worldOn(t, db, a.clock)) {
				p := w.picture(t, inbox)
				m, there := p.Message(lost)
				if p.Len() != 3 || p.UID(3) != last || !there || w.whole(t, m.ID) != "Subject: other\r\n\r\nof another, and longer\r\n" {
					t.Errorf("store %d: %d messages, of which %d is %q", i, p.Len(), lost, w.whole(t, m.ID))
				}
			}
			a.verify(t)
			for what, err := range map[string]error{
				"a look":   a.a.Upon(held).View(ctx, func(*Snapshot) error { return nil }),
				"a change": second(a.a.Upon(held).SetFlags(ctx, inbox, mail.SetOf(lost), FlagChange{Flags: mail.Seen})),
				"removal":  second(a.a.Upon(held).Expunge(ctx, inbox, mail.SetOf(lost), false)),
				"picture":  second(a.a.Upon(held).Picture(ctx, inbox)),
			} {
				if !errors.Is(err, ErrSetBack) {
					t.Errorf("%s upon what is lost: %v", what, err)
				}
			}
			if _, err := a.a.Upon(a.picture(t, inbox)).Expunge(ctx, inbox, mail.SetOf(last), false); err != nil {
				t.Error(err)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// Whatever nodes do, and however often the database is set back meanwhile, each shows what is on
// record, and lets nobody act upon what was lost, and everybody else.
func TestSetBackOnRandom(t *testing.T) {
	setBacks := 0
	rapid.Check(t, func(rt *rapid.T) {
		all, nodes := worlds(rapidT{rt}, 3)
		for _, w := range all[:2] {
			if rapid.Bool().Draw(rt, "attends") {
				defer w.a.Attend()()
			}
		}
		db, shard := nodes[2], all[0].a.shard
		inbox, err := all[0].boxErr("INBOX")
		if err != nil {
			rt.Fatal(err)
		}
		type moment struct {
			number  int
			records enginetest.Records
		}
		type holding struct {
			w    *world
			p    *Picture
			at   int // in the line of changes
			last int // number of the change there
		}
		next := 0
		line := []moment{{0, recordsOf(rt, db, shard)}}
		var held []holding
		present := func(w *world) *Picture {
			p, err := w.a.Picture(ctx, inbox.ID)
			if err != nil {
				rt.Fatal(err)
			}
			return p
		}
		act := func(w *world) {
			p := present(w)
			if rapid.Bool().Draw(rt, "holds") {
				held = append(held, holding{w, p, len(line) - 1, line[len(line)-1].number})
			}
			set := mail.SetOf(mail.UID(rapid.IntRange(1, 8).Draw(rt, "uid")))
			switch what := rapid.SampledFrom([]string{"deliver", "deliver", "flag", "expunge"}).Draw(rt, "what"); what {
			case "deliver":
				next++
				parcel, bad := w.Receive(ctx, strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", next, strings.Repeat("x", next))))
				if err = bad; err == nil {
					err = w.a.Update(ctx, func(tx *Tx) error { return second(tx.Append(inbox.ID, NewMessage{Parcel: parcel})) })
				}
			case "flag":
				_, err = w.a.Upon(p).SetFlags(ctx, inbox.ID, set, FlagChange{Flags: mail.Flags(rapid.IntRange(1, 15).Draw(rt, "flags"))})
			case "expunge":
				_, err = w.a.Upon(p).Expunge(ctx, inbox.ID, set, false)
			}
			if err != nil {
				rt.Fatal(err)
			}
			if d := recordsOf(rt, db, shard); !reflect.DeepEqual(d, line[len(line)-1].records) {
				next++
				line = append(line, moment{next, d})
			}
		}
		for range rapid.IntRange(5, 30).Draw(rt, "steps") {
			if rapid.IntRange(0, 5).Draw(rt, "set back") == 0 {
				line = line[:rapid.IntRange(1, len(line)).Draw(rt, "to")]
				if err := line[len(line)-1].records.SetBack(ctx, db, shard); err != nil {
					rt.Fatal(err)
				}
				setBacks++
			} else {
				act(all[rapid.IntRange(0, 1).Draw(rt, "node")])
			}
			if rapid.IntRange(0, 2).Draw(rt, "looks") > 0 {
				continue
			}
			fresh := worldOn(rapidT{rt}, db, all[0].clock)
			want := rows(present(fresh))
			for i, w := range all[:2] {
				if got := rows(present(w)); got != want {
					rt.Fatalf("node %d shows\n%s\nnot\n%s", i, got, want)
				}
			}
			for _, h := range held {
				lost := h.at >= len(line) || line[h.at].number != h.last
				err := h.w.a.Upon(h.p).View(ctx, func(*Snapshot) error { return nil })
				again := second(h.w.a.Upon(h.p).Picture(ctx, inbox.ID))
				if errors.Is(err, ErrSetBack) != lost || errors.Is(again, ErrSetBack) != lost || !lost && (err != nil || again != nil) {
					rt.Fatalf("upon a picture that is lost %v: %v, %v", lost, err, again)
				}
			}
		}
	})
	if setBacks == 0 {
		t.Error("nothing was ever set back")
	}
}
