package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
)

// repairLine is any line of a repair: events damaged, progress, mended, and done.
type repairLine struct {
	Event   string   `json:"event"`
	File    string   `json:"file,omitempty"`
	Account int64    `json:"account,omitempty"`
	Address string   `json:"address,omitempty"` // of the account, or of the directory
	QueueID string   `json:"queue_id,omitempty"`
	To      []string `json:"to,omitempty"`
	Mailbox string   `json:"mailbox,omitempty"`
	UID     int64    `json:"uid,omitempty"`
	Subject string   `json:"subject,omitempty"`
	From    string   `json:"from,omitempty"`
	Lost    bool     `json:"lost,omitempty"`    // gone for good, or may be
	Refused bool     `json:"refused,omitempty"` // an address that was given for an account
	What    string   `json:"what,omitempty"`

	Records int      `json:"records,omitempty"` // brought over
	Bytes   int64    `json:"bytes,omitempty"`
	Gaps    int      `json:"unreadable_ranges,omitempty"` // of records; some or all of one are lost
	Values  int      `json:"unreadable_records,omitempty"`
	Away    string   `json:"quarantine,omitempty"`
	Turned  []string `json:"files_put_right,omitempty"` // by a checksum, or a copy of their end
	Missing int      `json:"messages_lost,omitempty"`
	Ranges  int      `json:"ranges_lost,omitempty"`  // of records that nothing else says
	Other   int      `json:"records_lost,omitempty"` // of the directory, the queue, accounts
	OK      *bool    `json:"ok,omitempty"`           // with done: nothing but what followed from the rest is gone
}

// repairer carries a repair out and tells of it.
type repairer struct {
	ctx  context.Context
	cfg  *conf.Config
	out  io.Writer
	json bool
	plan bool

	give map[mail.AccountID]mail.Address

	away      string
	lost      int
	ranges    int
	other     int
	refused   []string        // what --give did not do, and why
	hurt      map[string]bool // addresses of accounts that lost something
	holes     []pebble.Hole
	addresses map[mail.AccountID]string
	report    *os.File // the same lines, kept in quarantine
	bar       *progressbar.ProgressBar
	errOut    io.Writer
}

// repair mends the store of a server that does not run.
func repair(cmd *cobra.Command, plan bool, give map[string]string) error {
	given, err := readGiven(give)
	if err != nil {
		return err
	}
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
	if shared(cfg) {
		return repairDatabase(cmd, cfg, plan, given)
	}
	if pid := lockHolder(engineLock(cfg)); pid > 0 {
		return failed("the data folder %s is in use by %s; stop it, then repair", cfg.Data, processName(pid))
	}
	// What root made the server could not open; a look takes the lock, too.
	if owner := cmp.Or(otherOwner(engineLock(cfg)), otherOwner(string(cfg.Data))); owner != "" && owner != cfg.User {
		return failed("the data in %s is that of user %s; run the command as this user: sudo -u '%s' martlet ...", cfg.Data, owner, owner)
	}
	if err := giveUpRoot(cfg); err != nil {
		return err
	}
	return newRepairer(cmd, cfg, plan, given).run()
}

func newRepairer(cmd *cobra.Command, cfg *conf.Config, plan bool, give map[mail.AccountID]mail.Address) *repairer {
	out := cmd.OutOrStdout()
	return &repairer{ctx: cmd.Context(), cfg: cfg, out: out, json: wantsJSON(cmd) || !isTerminal(out), plan: plan, give: give,
		hurt: map[string]bool{}, addresses: map[mail.AccountID]string{}, errOut: cmd.ErrOrStderr()}
}

// readGiven reads what addresses accounts are to have.
func readGiven(give map[string]string) (map[mail.AccountID]mail.Address, error) {
	given := map[mail.AccountID]mail.Address{}
	for number, address := range give {
		id, err := strconv.ParseUint(number, 10, 64)
		if err != nil || id == 0 {
			return nil, misused("--give takes NUMBER=ADDRESS, and %q is no number of an account", number)
		}
		a, err := mail.ParseAddress(address)
		if err != nil {
			return nil, misused("--give takes NUMBER=ADDRESS, and %q is no address: %v", address, err)
		}
		given[mail.AccountID(id)] = a
	}
	return given, nil
}

func (r *repairer) run() error {
	opt := pebble.Options{FS: vfs.Default, Now: time.Now, CacheBytes: r.cfg.Store.Memory("pebble"), Writer: "martlet " + thisBuild().Version, Log: slog.New(slog.DiscardHandler), Mending: true}
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
	done, err := r.begin()
	if err != nil {
		return err
	}
	defer r.report.Close()
	if len(found) > 0 || unfinished {
		size := sizeOf(dir)
		s, err := pebble.Repair(r.ctx, dir, filepath.Join(r.away, "store"), opt, func(s pebble.Salvaged) {
			r.progress("bytes brought over", s.Bytes, size, repairLine{Event: "progress", Records: s.Keys, Bytes: s.Bytes})
		})
		if err != nil {
			return err
		}
		done.Records, done.Bytes, done.Gaps, done.Values = s.Keys, s.Bytes, s.Gaps, s.Values
		done.Turned, r.holes = s.Turned, s.Holes
	} else if err := pebble.BeginMending(dir, opt); err != nil {
		return err
	}
	if err := r.records(opt); err != nil {
		return err
	}
	return r.end(done, func() error { return pebble.EndMending(dir, opt) })
}

// begin begins the report.
func (r *repairer) begin() (done repairLine, err error) {
	if r.away, err = makeQuarantine(string(r.cfg.Data), time.Now()); err != nil {
		return done, failed("cannot make a folder for what is replaced: %v", err)
	}
	if r.report, err = os.OpenFile(filepath.Join(r.away, "report.jsonl"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return done, failed("cannot write the report: %v", err)
	}
	return repairLine{Event: "done", Away: r.away}, nil
}

// end tells how it went, and then opens the store to servers again.
func (r *repairer) end(done repairLine, open func() error) error {
	ok := r.lost+r.ranges+r.other == 0
	done.Missing, done.Ranges, done.Other, done.OK = r.lost, r.ranges, r.other, &ok
	if err := r.tell(done); err != nil {
		return err
	}
	if err := errors.Join(r.report.Sync(), open()); err != nil {
		return err
	}
	switch {
	case len(r.refused) > 0 && ok:
		return misused("%s", strings.Join(r.refused, "; "))
	case len(r.refused) > 0:
		return misused("%s. Apart from that: %s", strings.Join(r.refused, "; "), r.incomplete())
	case !ok:
		return failed("%s", r.incomplete())
	}
	return nil
}

// makeQuarantine makes a folder of its own for what a repair replaces.
func makeQuarantine(data string, now time.Time) (away string, err error) {
	all := filepath.Join(data, "quarantine")
	if err := makeFolder(all); err != nil {
		return "", err
	}
	first := filepath.Join(all, now.UTC().Format("20060102T150405Z"))
	away = first
	for n := 2; ; n++ {
		err := os.Mkdir(away, 0o700)
		if errors.Is(err, fs.ErrExist) {
			away = fmt.Sprintf("%s-%d", first, n)
			continue
		}
		return away, errors.Join(err, syncFolder(all))
	}
}

func (r *repairer) planned(files int) error {
	if files == 0 {
		return r.tell(repairLine{Event: "done", What: "no file is damaged; without --plan the records would be brought into accord"})
	}
	return r.tell(repairLine{Event: "done", What: counted(int64(files), "file") + " damaged; without --plan a new store would be made of all that can be read, and the damaged one kept in " +
		filepath.Join(string(r.cfg.Data), "quarantine")})
}

// tell writes a line to the report and shows it.
func (r *repairer) tell(l repairLine) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if r.report != nil && l.Event != "progress" {
		_, err := r.report.Write(append(b, '\n'))
		if err == nil && l.Lost { // what is lost is said before its records go
			err = r.report.Sync()
		}
		if err != nil {
			return failed("cannot write the report: %v", err)
		}
	}
	if r.json {
		return printJSON(r.out, json.RawMessage(b))
	}
	return r.show(l)
}
