package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/backup"
	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/carry"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/node"
	"github.com/martlet-mail/martlet/internal/store"
)

// restoredWhole is the last line of it.
type restoredWhole struct {
	Event    string    `json:"event"`
	Time     time.Time `json:"time"` // of the snapshot
	Plan     bool      `json:"plan"`
	Accounts int       `json:"accounts"`
	Messages int64     `json:"messages"`
	Queued   int64     `json:"queued"`
	Failed   int64     `json:"failed"`
	Bytes    int64     `json:"bytes"`
}

// restoreWhole brings everything back into a store that is empty.
func restoreWhole(cmd *cobra.Command, r restoreRequest) error {
	cfg, _, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	if err := mustBeEmpty(cmd.Context(), cfg); err != nil {
		return err
	}
	if !r.Plan { // first: who cannot read all of the backup is to know at once
		if err := giveUpRoot(cfg); err != nil {
			return err
		}
	}
	from, err := backup.Open(backupDisk, r.Dir, r.At)
	if err != nil {
		return notAllowed(r.Dir, err)
	}
	defer from.Close()
	s := newStepScreen(cmd)
	info := from.Info()
	done := restoredWhole{Event: "done", Time: info.Time, Plan: r.Plan, Accounts: info.Accounts, Messages: info.Messages, Queued: info.Queued}
	if !r.Plan {
		fill := fillFolder
		if shared(cfg) {
			fill = fillDatabase
		}
		got, err := fill(cmd.Context(), cfg, from, backup.RestoreOptions{
			Progress: steps(s),
			Problem: func(p backup.Problem) {
				_ = s.line(brokenLine{"problem", p.File, p.What}, backupLine{Event: "problem", What: p.What})
			},
		})
		s.clear()
		if err != nil {
			return err
		}
		done.Failed, done.Bytes = got.Failed, got.Bytes
	}
	if s.json {
		if err := printJSON(s.out, done); err != nil {
			return err
		}
	}
	return r.tell(cmd, backupLine{Time: done.Time, Accounts: int64(done.Accounts), Messages: done.Messages, Failed: done.Failed})
}

// mustBeEmpty fails if there is mail in the store.
func mustBeEmpty(ctx context.Context, cfg *conf.Config) error {
	if shared(cfg) {
		s, err := emptySide(ctx, cfg)
		if err != nil {
			return err
		}
		return s.close()
	}
	list, err := os.ReadDir(engineDir(cfg))
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(list) == 0:
		return nil
	case err != nil:
		return failed("cannot read the data folder %s: %v", cfg.Data, err)
	}
	return failed("the data folder %s is not empty; stop the server and move %s away, or name another data folder in the configuration", cfg.Data, engineDir(cfg))
}

// fillFolder makes the store of a data folder, beside its place, and moves it there once
// all is durable: a restore that is cut short leaves an empty data folder.
func fillFolder(ctx context.Context, cfg *conf.Config, from *backup.Opened, opt backup.RestoreOptions) (done backup.Restored, err error) {
	aside := engineDir(cfg) + ".restoring"
	if pid := lockHolder(filepath.Join(aside, "LOCK")); pid > 0 {
		return done, failed("%s is restoring into %s already", processName(pid), cfg.Data)
	}
	if err := makeFolder(string(cfg.Data)); err != nil {
		return done, failed("cannot make the data folder: %v", err)
	}
	if err := os.RemoveAll(aside); err != nil {
		return done, failed("cannot remove what an earlier restore has left in %s: %v", aside, err)
	}
	eng, err := pebble.Open(aside, pebble.Options{FS: vfs.Default, Now: time.Now, CacheBytes: cfg.Store.Memory("pebble"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return done, err
	}
	done, err = from.Whole(ctx, eng, opt)
	if err == nil {
		var failed int64
		failed, err = depart(ctx, eng, opt)
		done.Failed += failed
	}
	if closing := eng.Close(); err == nil {
		err = closing
	}
	if err != nil {
		os.RemoveAll(aside)
		return done, err
	}
	_ = os.Remove(engineDir(cfg)) // if it is there it is empty
	if err := os.Rename(aside, engineDir(cfg)); err != nil {
		return done, failed("everything is restored in %s, but cannot be moved to %s: %v", aside, engineDir(cfg), err)
	}
	return done, syncFolder(string(cfg.Data))
}

// depart sets what was restored apart from what came after the snapshot and is lost.
func depart(ctx context.Context, eng engine.Engine, opt backup.RestoreOptions) (failed int64, err error) {
	st, err := store.Open(eng, store.Options{Now: time.Now, Rand: rand.Reader})
	if err != nil {
		return 0, err
	}
	defer st.Close()
	d, err := directory.Open(ctx, eng, st, directory.Options{Now: time.Now, Rand: rand.Reader})
	if err != nil {
		return 0, err
	}
	defer d.Close()
	return backup.Depart(ctx, st, d, opt)
}

// emptySide opens a database that is empty, or that holds a part of a restore.
func emptySide(ctx context.Context, cfg *conf.Config) (*side, error) {
	s, err := openSide(ctx, cfg, "postgres", true, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	m, err := readMarks(ctx, s.engine)
	if err == nil && !m.restored {
		var full bool
		if full, err = s.records(ctx); err == nil && full {
			err = failed("the database %s is not empty; name an empty one in url of [store]", s.where)
		}
	}
	if err == nil {
		err = s.alone(ctx, func(string) {})
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// fillDatabase fills a database that nobody may serve from until all is there. What an
// earlier restore has left in it goes first.
func fillDatabase(ctx context.Context, cfg *conf.Config, from *backup.Opened, opt backup.RestoreOptions) (done backup.Restored, err error) {
	s, err := emptySide(ctx, cfg)
	if err != nil {
		return done, err
	}
	defer func() {
		if closing := s.close(); err == nil {
			err = closing
		}
	}()
	return s.fill(ctx, from, opt)
}

// fill restores into a side on which no node runs.
func (s *side) fill(ctx context.Context, from *backup.Opened, opt backup.RestoreOptions) (done backup.Restored, err error) {
	if err := setMark(ctx, s.engine, restoreKey, underWay()); err != nil {
		return done, err
	}
	err = s.shut(ctx, restoreCloses(s.name), func(what string) { opt.Problem(backup.Problem{What: what}) })
	if err != nil {
		return done, err
	}
	shards, err := s.engine.Shards(ctx)
	for _, sh := range shards {
		if err == nil && sh != carry.Shard {
			err = s.engine.Update(ctx, sh, func(w engine.Writer) error { return w.DeleteRange(nil, nil) })
		}
	}
	if err != nil {
		return done, err
	}
	if done, err = from.Whole(ctx, s.engine, opt); err != nil {
		return done, err
	}
	failed, err := depart(ctx, s.engine, opt)
	done.Failed += failed
	if err != nil {
		return done, err
	}
	if err := node.Raise(ctx, s.engine, storedFormat); err != nil { // what was written is of this form
		return done, err
	}
	if err := s.reopen(ctx); err != nil {
		return done, err
	}
	return done, setMark(ctx, s.engine, restoreKey, nil)
}
