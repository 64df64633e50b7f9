package move

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/store"
)

func (u *unsteady) Former(ctx context.Context, box Box, now, behind string) (list []TiedContent, err error) {
	err = u.call(func() (err error) { list, err = u.Target.Former(ctx, box, now, behind); return err })
	return list, err
}

// renumberedMail is a mailbox of n messages, each twice, under a UIDVALIDITY.
func renumberedMail(validity, n int) *memory {
	b := memoryBox{Mailbox: Mailbox{Name: "Work", Source: "Work"}}
	for i := range n {
		b.add(letter(i/2), Item{Key: fmt.Sprint(validity, ".", i+1), Date: time.Unix(1_500_000_000+int64(i), 0)})
	}
	return &memory{boxes: []memoryBox{b}}
}

// A mailbox gets another UIDVALIDITY, and the import that finds that is killed at any of its
// steps, before it or behind it, or the line breaks: nothing comes twice, whether the new one
// is the larger number or not, or the larger text, and whether flags are followed or not.
func TestRenumberedAndKilled(t *testing.T) {
	const n = 1200 // new keys are written for 500 at once
	for _, follow := range []bool{false, true} {
		w := newWorld(t, store.Quota{})
		options := func(s *memory) Options {
			o := w.options(s)
			o.Changes, o.FollowFlags, o.FollowGone = follow, follow, follow
			return o
		}
		if _, err := Import(ctx, options(renumberedMail(9, n))); err != nil {
			t.Fatal(err)
		}
		killed := 0
		for i, validity := range []int{10, 9, 100, 20, 3, 9} {
			for at := 1; ; at++ {
				s := renumberedMail(validity*10+at%10, n) // another one for each step
				s.cut = []int{0, 600, 450}[at%3]
				o, left := options(s), at
				o.Target = &unsteady{o.Target, func() (bool, bool) {
					left--
					return left == 0 && i%2 == 0, left == 0 && i%2 == 1
				}}
				_, err := Import(ctx, o)
				if err == nil {
					break
				}
				if !errors.Is(err, errKilled) {
					t.Fatal(err)
				}
				killed++
				s.cut = 0
				r, err := Import(ctx, options(s))
				if err != nil || r.Mailboxes[0].Brought != 0 || w.place(t, "Work").Messages != n {
					t.Fatalf("follow %v, UIDVALIDITY %d, killed at step %d: %+v, %d messages here, %v", follow, validity, at, r.Mailboxes, w.place(t, "Work").Messages, err)
				}
			}
		}
		if killed < 40 {
			t.Errorf("killed %d times only", killed)
		}
		w.verify(t)
	}
}

// Former ties of messages that are gone at the source are among others for ever, and what was
// brought meanwhile is not looked through to find them.
func TestFormerSteps(t *testing.T) {
	w := newWorld(t, store.Quota{})
	box := Box{"memory", "Work"}
	at, _ := w.open(t, box.Source, Mailbox{Name: "Work", Source: "Work"})
	var list []Incoming
	for v, n := range map[string]int{"9": 40, "10": 3, "99": 700, "100": 2} {
		for i := range n {
			list = append(list, incoming(Item{Key: fmt.Sprint(v, ".", i+1)}, letter(i)))
		}
	}
	for _, key := range []string{"9", "9.x", "12345678901.1", "x.1", ":.1", "+1.2"} {
		list = append(list, incoming(Item{Key: key}, letter(1)))
	}
	if _, err := w.Put(ctx, box, at.ID, list); err != nil {
		t.Fatal(err)
	}
	for now, want := range map[string]int{"9": 705, "10": 742, "99": 45, "100": 743, "1": 745} {
		seen, before := 0, ""
		for {
			list, err := w.Former(ctx, box, now, before)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) == 0 {
				break
			}
			for _, f := range list {
				if generation(f.Key) == now || generation(f.Key) == "" || f.Key <= before || f.Content == (Content{}) {
					t.Errorf("now %s: %q behind %q", now, f.Key, before)
				}
				before = f.Key
				seen++
			}
		}
		if seen != want {
			t.Errorf("now %s: %d former ties, want %d", now, seen, want)
		}
	}
}
