package queue

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// TestRepairKeepsWhatNobodyTook: what cannot be sent stays in the queue until what is left of
// it has been taken.
func TestRepairKeepsWhatNobodyTook(t *testing.T) {
	bg := context.Background()
	full := errors.New("the disk is full")
	for name, hurt := range map[string]byte{"a message": famMessage, "a recipient": famRecipient} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			b.put("alice@martlet.test", "bob@example.org")
			var key, was []byte
			if err := b.eng.Update(bg, shard, func(w engine.Writer) error {
				err := w.Scan([]byte{hurt}, []byte{hurt + 1}, false, func(k, v []byte) bool {
					key, was = append(key, k...), append(was, v...)
					return false
				})
				was[0] ^= 1
				return errors.Join(err, w.Put(key, was))
			}); err != nil {
				t.Fatal(err)
			}
			repair := func(answer error) (lost []Mended) {
				err := Repair(bg, b.eng, b.store, b.clock.now(), func(m Mended) error {
					lost = append(lost, m)
					return answer
				})
				if !errors.Is(err, answer) || err != nil && answer == nil {
					t.Errorf("the repair ends with %v", err)
				}
				return lost
			}
			for range 2 {
				if lost := repair(full); len(lost) != 1 || len(lost[0].Content) == 0 {
					t.Errorf("it tells of %d messages", len(lost))
				}
			}
			if err := b.eng.View(bg, shard, func(r engine.Reader) error {
				if v, _, err := r.Get(key); err != nil || string(v) != string(was) {
					t.Errorf("the record was %x and is %x, %v", was, v, err)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if lost := repair(nil); len(lost) != 1 {
				t.Errorf("it tells of %d messages", len(lost))
			}
			if lost := repair(nil); len(lost) != 0 {
				t.Errorf("a repaired queue has lost %d messages", len(lost))
			}
		})
	}
}

// A message may have several keys: where their alarms are lost each gets one, and all go in time.
func TestRepairForgetsEachKey(t *testing.T) {
	bg := context.Background()
	b := newBench(t, nil)
	e := Entry{Envelope: envelope("a@martlet.test", "b@example.org"), Parcel: b.parcel(sample), Key: "one"}
	b.enqueue(e)
	e.Key, e.Earlier = "two", []string{"one", "none"}
	b.enqueue(e)
	err := b.eng.Update(bg, shard, func(w engine.Writer) error { return w.DeleteRange([]byte{famAlarm}, []byte{famAlarm + 1}) })
	if err == nil {
		err = Repair(bg, b.eng, b.store, b.clock.now(), func(Mended) error { return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.sound()
	b.pass(keyAge+time.Hour, time.Hour)
	if n := b.keys("ka"); n != 0 {
		t.Errorf("%d keys and alarms are left", n)
	}
}
