package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// A node that is asleep while its database is copied as a whole changes nothing there when it wakes,
// before and after the end of the copy, until the store is opened again.
func TestCopyShutsTheDatabase(t *testing.T) {
	config, asleep := nodeOnDatabase(t, "2s")
	defer asleep.close()
	wakes := func() error {
		return asleep.engine.Update(t.Context(), 1000, func(w engine.Writer) error { return w.Put([]byte("k"), []byte("late")) })
	}
	run := func(args ...string) (output string) {
		t.Helper()
		got := command(t, "", append(args, "--config", config)...)
		if got.code != 0 {
			t.Fatalf("%v: %+v", args, got)
		}
		return got.out + got.err
	}
	run("store", "copy", "--from", "postgres", "--to", "pebble")
	for range 2 { // the first may find its connection gone
		if err := wakes(); !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Unknown) {
			t.Errorf("a node that wakes: %v", err)
		}
	}
	if err := wakes(); !strings.Contains(fmt.Sprint(err), "was copied to pebble") {
		t.Errorf("a node that wakes is told: %v", err)
	}
	if got := command(t, "", "account", "list", "--config", config); got.code == 0 || !strings.Contains(got.err, "was copied to pebble") {
		t.Errorf("a command: %+v", got)
	}
	run("store", "reopen", "postgres")
	if err := wakes(); err != nil {
		t.Errorf("when it is open again: %v", err)
	}
	s, err := openSide(t.Context(), asleep.cfg, "postgres", false, asleep.log)
	if err == nil { // a repair that is cut short
		err = errors.Join(setMark(t.Context(), s.engine, mendingKey, underWay()), s.shut(t.Context(), mendingCloses("postgres"), func(what string) { t.Error(what) }), s.close())
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = wakes()
	if err := wakes(); !strings.Contains(fmt.Sprint(err), "verify --repair") {
		t.Errorf("while it is repaired: %v", err)
	}
	if got := command(t, "", "store", "copy", "--from", "postgres", "--to", "pebble", "--config", config); got.code == 0 || !strings.Contains(got.err, "verify --repair") {
		t.Errorf("a copy of what is half repaired: %+v", got)
	}
	if err := wakes(); !strings.Contains(fmt.Sprint(err), "verify --repair") {
		t.Errorf("after that: %v", err)
	}
	run("verify", "--repair")
	if err := wakes(); err != nil {
		t.Errorf("when it is repaired: %v", err)
	}
}

// onStage runs something when a copy first shows how far it is with what it copies.
type onStage struct{ do func() }

func (o *onStage) Write(p []byte) (int, error) {
	if do := o.do; do != nil && strings.Contains(string(p), `"stage"`) {
		o.do = nil
		do()
	}
	return len(p), nil
}

// A node that was asleep on the database that a copy fills takes nothing in when it wakes: the copy
// would remove it again. It may as soon as the copy is proved, and not if the copy is cut short.
func TestCopyShutsItsTarget(t *testing.T) {
	_, asleep := nodeOnDatabase(t, "2s")
	defer asleep.close()
	wakes := func() error {
		return asleep.engine.Update(t.Context(), 1000, func(w engine.Writer) error { return w.Put([]byte("late"), []byte("mail")) })
	}
	shards, err := asleep.engine.Shards(t.Context())
	for _, sh := range shards { // as by whoever begins anew, while a node sleeps
		err = errors.Join(err, asleep.engine.Update(t.Context(), sh, func(w engine.Writer) error { return w.DeleteRange(nil, nil) }))
	}
	if err != nil {
		t.Fatal(err)
	}
	from := memorySide(t, "pebble", "a", 3)
	during := func(do func()) error {
		to, err := openSide(t.Context(), asleep.cfg, "postgres", false, asleep.log)
		if err != nil {
			t.Fatal(err)
		}
		c := copyBetween(t, from, to, nil)
		c.screen.out = &onStage{do}
		return errors.Join(c.run(t.Context()), to.close())
	}
	err = during(func() {
		if err := wakes(); !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Unknown) {
			t.Errorf("a node that wakes: %v", err)
		}
		if err := setMark(t.Context(), from.engine, sourceKey, nil); err != nil {
			t.Error(err)
		}
	})
	if err == nil || !strings.Contains(err.Error(), "opened for servers again") {
		t.Errorf("the copy ends with %v", err)
	}
	if err := wakes(); !strings.Contains(fmt.Sprint(err), "part of a copy") {
		t.Errorf("after a copy that was cut short: %v", err)
	}
	if err := during(func() {}); err != nil {
		t.Fatal(err)
	}
	if err := wakes(); err != nil {
		t.Errorf("after the copy: %v", err)
	}
}
