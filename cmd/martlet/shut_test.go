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
