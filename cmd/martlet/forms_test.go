package main

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/backup"
	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/node"
	"github.com/martlet-mail/martlet/internal/store"
)

// databaseSide is a store in memory that several processes share.
func databaseSide(t *testing.T) *side {
	t.Helper()
	e, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	shared := enginetest.Nodes(e, 1)[0]
	t.Cleanup(func() { shared.Close(); e.Close() })
	return &side{name: "postgres", where: "db", engine: shared}
}

// older opens a node of a program that knows no form but the first.
func older(t *testing.T, e engine.Engine) (*node.Node, error) {
	t.Helper()
	return node.Open(t.Context(), e, node.Options{Name: "old", Lease: time.Second, Version: "0", Format: storedFormat - 1,
		Elapsed: func() time.Duration { return 0 }, Now: time.Now, Random: rand.Reader})
}

// A repair writes no form that those who come back to the database cannot read.
func TestRepairKeepsTheForm(t *testing.T) {
	s := databaseSide(t)
	old, err := older(t, s.engine)
	if err == nil {
		err = old.Join(t.Context())
	}
	if err == nil {
		err = old.Leave(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(s.engine, store.Options{Now: time.Now, Format: old.Format})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	d, err := directory.Open(t.Context(), s.engine, st, directory.Options{Now: time.Now, Rand: rand.Reader, Format: old.Format})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err = d.AddDomain(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	made, err := d.AddAccount(t.Context(), mail.Address{Local: "carol", Domain: "example.org"}, "", store.Quota{})
	if err != nil {
		t.Fatal(err)
	}
	shard := store.ShardOf(made.ID)
	was := kindsOf(t, s.engine, shard)
	if err := s.engine.Update(t.Context(), shard, func(w engine.Writer) error { return w.DeleteRange(nil, nil) }); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	cfg := &conf.Config{Data: conf.Path(t.TempDir())}
	cfg.Cluster.Node, cfg.Cluster.Lease = "mx1", conf.Duration(time.Second)
	if err := newRepairer(cmd, cfg, false, nil).database(s); err == nil {
		t.Error("nothing was lost: nothing is tried")
	}
	now := kindsOf(t, s.engine, shard)
	for kind := range now {
		if !was[kind] {
			t.Errorf("a record of kind %d was written, which older programs do not know", kind)
		}
	}
	if len(now) == 0 {
		t.Error("nothing was written: nothing is tried")
	}
}

// whole is a database that never fails.
type whole struct{ engine.Shared }

func (whole) Healthy() error                                         { return nil }
func (whole) Failed() <-chan struct{}                                { return nil }
func (whole) ReadFailures() int64                                    { return 0 }
func (whole) CheckFiles(context.Context, func(string, string)) error { return nil }

// A command that works on a database before any node has refuses programs that do not know what it
// writes; beside those that do not it writes none of it.
func TestCommandBeforeAnyNode(t *testing.T) {
	open := func(e engine.Engine) *house {
		h := &house{cfg: &conf.Config{Data: conf.Path(t.TempDir())}, engine: whole{e.(engine.Shared)}, log: slog.New(slog.DiscardHandler)}
		h.cfg.Cluster.Node, h.cfg.Cluster.Lease = "mx1", conf.Duration(time.Second)
		if err := h.join(t.Context()); err != nil {
			t.Fatal(err)
		}
		return h
	}
	s := databaseSide(t)
	if form := open(s.engine).node.Format(); form != storedFormat {
		t.Errorf("it writes form %d", form)
	}
	if _, err := older(t, s.engine); !fault.Is(err, fault.Unsupported) {
		t.Errorf("an older program comes then: %v", err)
	}
	s = databaseSide(t)
	old, err := older(t, s.engine)
	if err == nil {
		err = old.Join(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if form := open(s.engine).node.Format(); form != storedFormat-1 {
		t.Errorf("beside a node of an older program it writes form %d", form)
	}
}

// kindsOf returns which kinds of records a shard has.
func kindsOf(t *testing.T, e engine.Engine, shard engine.Shard) map[byte]bool {
	t.Helper()
	kinds := map[byte]bool{}
	all, err := enginetest.RecordsOf(context.Background(), e, shard)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		kinds[r.Value[0]] = true
	}
	return kinds
}

// A database that was filled with records of a form refuses programs that do not know it.
func TestWhatIsFilledRefusesOlderPrograms(t *testing.T) {
	refuses := func(t *testing.T, e engine.Engine) {
		t.Helper()
		if _, err := older(t, e); !fault.Is(err, fault.Unsupported) {
			t.Errorf("an older program: %v", err)
		}
	}
	t.Run("by a copy", func(t *testing.T) {
		from, to := memorySide(t, "pebble", "a", 3), memorySide(t, "postgres", "db", 0)
		if err := node.Raise(t.Context(), from.engine, storedFormat-1); err != nil { // it was a database's once
			t.Fatal(err)
		}
		if err := copyBetween(t, from, to, nil).run(t.Context()); err != nil {
			t.Fatal(err)
		}
		refuses(t, to.engine)
	})
	t.Run("by a restore", func(t *testing.T) {
		config, dir := withMail(t), filepath.Join(t.TempDir(), "backup")
		if got := command(t, "", "backup", dir, "--config", config); got.code != 0 {
			t.Fatalf("%+v", got)
		}
		from, err := backup.Open(backupDisk, dir, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		s := databaseSide(t)
		if _, err := s.fill(t.Context(), from, backup.RestoreOptions{}); err != nil {
			t.Fatal(err)
		}
		refuses(t, s.engine)
	})
}
