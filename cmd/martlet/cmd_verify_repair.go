package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// repairLine is any line of a repair: events damaged, progress, mended, and done.
type repairLine struct {
	Event   string `json:"event"`
	File    string `json:"file,omitempty"`
	Account int64  `json:"account,omitempty"`
	Mailbox string `json:"mailbox,omitempty"`
	UID     int64  `json:"uid,omitempty"`
	Subject string `json:"subject,omitempty"`
	From    string `json:"from,omitempty"`
	Lost    bool   `json:"lost,omitempty"` // the message is gone
	What    string `json:"what,omitempty"`

	Records int    `json:"records,omitempty"` // brought over
	Bytes   int64  `json:"bytes,omitempty"`
	Gaps    int    `json:"unreadable_ranges,omitempty"` // of records; some or all of one are lost
	Values  int    `json:"unreadable_records,omitempty"`
	Away    string `json:"quarantine,omitempty"`
	Missing int    `json:"messages_lost,omitempty"`
}

// repairer carries a repair out and tells of it.
type repairer struct {
	ctx  context.Context
	cfg  *conf.Config
	out  io.Writer
	json bool
	plan bool

	lost   int
	report *os.File // the same lines, kept in quarantine
}

// repair mends the store of a server that does not run.
func repair(cmd *cobra.Command, plan bool) error {
	cfg, _, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	c, err := dialServer(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	if c != nil {
		return errors.Join(failed("the server is running; stop it, then repair"), c.close())
	}
	if pid := lockHolder(engineLock(cfg)); pid > 0 {
		return failed("the data folder %s is in use by %s; stop it, then repair", cfg.Data, processName(pid))
	}
	out := cmd.OutOrStdout()
	r := &repairer{ctx: cmd.Context(), cfg: cfg, out: out, json: wantsJSON(cmd) || !isTerminal(out), plan: plan}
	return r.run()
}

func (r *repairer) run() error {
	opt := pebble.Options{FS: vfs.Default, Now: time.Now, CacheBytes: int64(r.cfg.Store.Cache), Writer: "martlet " + thisBuild().Version, Log: slog.New(slog.DiscardHandler)}
	dir := engineDir(r.cfg)
	found, err := pebble.Inspect(r.ctx, dir, opt)
	unfinished := errors.Is(err, fs.ErrNotExist) // a repair was cut short when the old store had been moved
	if err != nil && !unfinished {
		return err
	}
	for _, f := range found {
		if err := r.tell(repairLine{Event: "damaged", File: f.File, What: f.What}); err != nil {
			return err
		}
	}
	if r.plan {
		return r.planned(len(found))
	}
	away := filepath.Join(string(r.cfg.Data), "quarantine", time.Now().UTC().Format("20060102T150405Z"))
	if err := os.MkdirAll(away, 0o700); err != nil {
		return failed("cannot make %s: %v", away, err)
	}
	if r.report, err = os.OpenFile(filepath.Join(away, "report.jsonl"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return failed("cannot write the report: %v", err)
	}
	defer r.report.Close()
	done := repairLine{Event: "done", Away: away}
	if len(found) > 0 || unfinished {
		s, err := pebble.Repair(r.ctx, dir, filepath.Join(away, "store"), opt, func(s pebble.Salvaged) {
			_ = r.tell(repairLine{Event: "progress", Records: s.Keys, Bytes: s.Bytes})
		})
		if err != nil {
			return err
		}
		done.Records, done.Bytes, done.Gaps, done.Values = s.Keys, s.Bytes, s.Gaps, s.Values
	}
	if err := r.records(opt); err != nil {
		return err
	}
	done.Missing = r.lost
	return r.tell(done)
}

func (r *repairer) planned(files int) error {
	if files == 0 {
		return r.tell(repairLine{Event: "done", What: "no file is damaged; without --plan the records would be brought into accord"})
	}
	return r.tell(repairLine{Event: "done", What: counted(int64(files), "file") + " damaged; without --plan a new store would be made of all that can be read, and the damaged one kept in " +
		filepath.Join(string(r.cfg.Data), "quarantine")})
}

// records mends what is in the store.
func (r *repairer) records(opt pebble.Options) error {
	eng, err := pebble.Open(engineDir(r.cfg), opt)
	if err != nil {
		return err
	}
	st, err := store.Open(eng, store.Options{Now: time.Now})
	if err != nil {
		return errors.Join(err, eng.Close())
	}
	err = st.Repair(r.ctx, known(r.ctx, eng, st), func(m store.Mended) {
		if m.Lost {
			r.lost++
		}
		_ = r.tell(repairLine{Event: "mended", Account: int64(m.Account), Mailbox: m.Mailbox, UID: int64(m.UID), Subject: m.Subject, From: m.From, Lost: m.Lost, What: m.What})
	})
	st.Close()
	return errors.Join(err, eng.Close())
}

// known are the accounts of the directory, as far as it can be read.
func known(ctx context.Context, eng *pebble.Engine, st *store.Store) (ids []mail.AccountID) {
	d, err := directory.Open(ctx, eng, st, directory.Options{Now: time.Now, Rand: rand.Reader})
	if err != nil {
		return nil
	}
	defer d.Close()
	for a, err := range d.Accounts(ctx, "") {
		if err == nil {
			ids = append(ids, a.ID)
		}
	}
	return ids
}

// tell writes a line to the report and shows it.
func (r *repairer) tell(l repairLine) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if r.report != nil && l.Event != "progress" {
		if _, err := r.report.Write(append(b, '\n')); err != nil {
			return failed("cannot write the report: %v", err)
		}
	}
	if r.json {
		return printJSON(r.out, json.RawMessage(b))
	}
	return r.show(l)
}
