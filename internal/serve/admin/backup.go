package admin

import (
	"time"

	"github.com/martlet-mail/martlet/internal/backup"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Lines of a backup and of a restore: any number with event progress, problem or mailbox,
// then one with event done.
type (
	stepLine struct {
		Event string `json:"event"`
		Step  string `json:"step"` // what is counted: accounts, bodies, messages
		Done  int64  `json:"done"`
		Total int64  `json:"total"`
		Bytes int64  `json:"bytes"`
	}
	savedLine struct {
		Event     string    `json:"event"`
		Time      time.Time `json:"time"` // of the snapshot
		Accounts  int       `json:"accounts"`
		Unchanged int       `json:"unchanged_accounts"`
		Messages  int64     `json:"messages"`
		Queued    int64     `json:"queued"`
		Objects   int64     `json:"new_objects"`
		Bytes     int64     `json:"new_bytes"`
		Seconds   float64   `json:"seconds"`
		Lost      int       `json:"lost"` // bodies that the store does not have any more, and records damaged there
	}
	mailboxBackLine struct {
		Event   string `json:"event"`
		Mailbox string `json:"mailbox"` // as it was called then
		To      string `json:"to"`
		Missing int64  `json:"missing"`
		Present int64  `json:"present"`
	}
	restoredLine struct {
		Event     string    `json:"event"`
		Time      time.Time `json:"time"` // of the snapshot
		Plan      bool      `json:"plan"`
		Accounts  int       `json:"accounts"` // made again
		Mailboxes int       `json:"mailboxes"`
		Messages  int64     `json:"messages"`
		Present   int64     `json:"present"`
		Failed    int64     `json:"failed"`
		Bytes     int64     `json:"bytes"`
	}
)

// steps returns what tells now and then how far something is.
func (a *api) steps(r *request) func(backup.Progress) {
	var last time.Time
	step := ""
	return func(p backup.Progress) {
		now := a.Now()
		if p.Step == step && now.Sub(last) < progressEvery {
			return
		}
		last, step = now, p.Step
		_ = r.send(stepLine{"progress", p.Step, p.Done, p.Total, p.Bytes}) // if the caller has gone, the context ends
		r.flush()
	}
}

func (r *request) problem(p backup.Problem) {
	_ = r.send(problemLine{Event: "problem", What: p.What})
	r.flush()
}

func (a *api) backup(r *request) error {
	var in struct {
		Dir  string `json:"dir"`
		Full bool   `json:"full"`
	}
	if err := r.read(&in); err != nil {
		return err
	}
	if err := absolute(in.Dir); err != nil {
		return err
	}
	s, err := a.Backup.Save(r.ctx, in.Dir, backup.SaveOptions{Full: in.Full, Progress: a.steps(r), Problem: r.problem})
	if err != nil {
		return err
	}
	a.Log.Info("backup made", "dir", in.Dir, "snapshot", s.Time, "new_bytes", s.Bytes, "lost", s.Lost)
	return r.send(savedLine{"done", s.Time, s.Accounts, s.Unchanged, s.Messages, s.Queued, s.Objects, s.Bytes, s.Took.Seconds(), s.Lost})
}

// absolute fails for a path that means something else here than to the caller.
func absolute(dir string) error {
	if dir == "" || dir[0] != '/' && (len(dir) < 3 || dir[1] != ':') {
		return fault.Newf(fault.Invalid, "the folder %q is no absolute path", dir)
	}
	return nil
}

func (a *api) restore(r *request) error {
	var in struct {
		Dir     string    `json:"dir"`
		At      time.Time `json:"at"`
		Account string    `json:"account"`
		Mailbox string    `json:"mailbox"`
		To      string    `json:"to"`
		Merge   bool      `json:"merge"`
		Plan    bool      `json:"plan"`
	}
	if err := r.read(&in); err != nil {
		return err
	}
	if err := absolute(in.Dir); err != nil {
		return err
	}
	addr, err := parseAddress(in.Account)
	if err != nil {
		return err
	}
	if in.To != "" && in.Mailbox == "" {
		return fault.New(fault.Invalid, "a mailbox to restore to needs one to restore")
	}
	opt := backup.AccountOptions{
		RestoreOptions: backup.RestoreOptions{Progress: a.steps(r), Problem: r.problem},
		Mailbox:        in.Mailbox, To: in.To, Merge: in.Merge, Plan: in.Plan,
		Each: func(from, to string, missing, present int64) {
			_ = r.send(mailboxBackLine{"mailbox", from, to, missing, present})
			r.flush()
		},
	}
	done, err := a.Backup.RestoreAccount(r.ctx, in.Dir, in.At, addr, opt)
	if err != nil {
		return err
	}
	if !in.Plan {
		a.Log.Info("restored from a backup", "dir", in.Dir, "account", addr, "mailbox", in.Mailbox, "messages", done.Messages)
	}
	return r.send(restoredLine{"done", done.Time, in.Plan, done.Accounts, done.Mailboxes, done.Messages, done.Present, done.Failed, done.Bytes})
}
