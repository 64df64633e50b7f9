package trace

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// An event is shorter than what is read of it, whatever strangers put into it: else all that
// comes behind it would be hidden.
func TestLongestEvent(t *testing.T) {
	d := newDesk(t, vfs.NewMem())
	long := strings.Repeat("<", 200_000)
	e := Event{}
	fill(reflect.ValueOf(&e).Elem(), long)
	e.What = Received
	var r Recipient
	fill(reflect.ValueOf(&r).Elem(), long)
	r.State = Sent
	for range maxRecipients {
		e.To = append(e.To, r)
	}
	before := e.To[0].Address
	d.Note(e)
	if n := len(d.buf); n > maxLine || n == 0 && d.size > maxLine {
		t.Errorf("an event of %d bytes", n)
	}
	if e.To[0].Address != before {
		t.Error("what belongs to the caller was cut")
	}
	d.Note(Event{What: Received, ID: "behind"})
	same(t, d.tell(t, Query{Name: "behind"}), "received behind")

	// Damage that is longer than any line hides nothing either.
	d.Close()
	d.now = d.now.Add(1)
	all, _ := d.segments()
	f, err := d.fs.OpenReadWrite(d.path(all[0].String()), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := f.Stat()
	line := strings.Repeat("x", 3*maxLine) + "\n" + `{"at":"2026-05-01T12:00:00Z","event":"received","id":"far"}` + "\n"
	if _, err := f.WriteAt([]byte(line), info.Size()); err != nil {
		t.Fatal(err)
	}
	f.Close()
	found, err := d.Find(context.Background(), Query{Name: "far"})
	if err != nil || len(found) != 1 {
		t.Errorf("%d stories, %v", len(found), err)
	}
}

// fill puts a text into every string of a struct.
func fill(v reflect.Value, text string) {
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String && f.CanSet() {
			f.SetString(text)
		}
	}
}

func TestCut(t *testing.T) {
	for s, want := range map[string]string{"": "", "abc": "abc", "abcdef": "abcd", "abcé": "abc", "abé": "abé"} {
		if got := cut(s, 4); got != want {
			t.Errorf("%q becomes %q", s, got)
		}
	}
}
