package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/link"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// records mends what is in the store: the directory first, which knows whose it is.
func (r *repairer) records(opt pebble.Options) error {
	eng, err := pebble.Open(engineDir(r.cfg), opt)
	if err != nil {
		return err
	}
	st, err := store.Open(eng, store.Options{Now: time.Now})
	if err != nil {
		return errors.Join(err, eng.Close())
	}
	err = r.allRecords(eng, st)
	st.Close()
	return errors.Join(err, eng.Close())
}

func (r *repairer) allRecords(eng engine.Engine, st *store.Store) error {
	data, err := r.withData(eng)
	if err != nil {
		return err
	}
	if err := r.mendDirectory(eng, data); err != nil {
		return err
	}
	known, err := r.known(eng, st)
	if err != nil {
		return err
	}
	r.tellHoles()
	if err := r.createAnew(st, known, data); err != nil {
		return err
	}
	if err := r.mendAccounts(st, known, data); err != nil {
		return err
	}
	if err := queue.Repair(r.ctx, eng, st, time.Now(), r.mendedQueue); err != nil {
		return err
	}
	return link.Repair(r.ctx, eng, func(_ link.ID, what string) {
		r.other++
		_ = r.tell(repairLine{Event: "mended", Lost: true, What: what})
	})
}

// withData are the accounts that have any record.
func (r *repairer) withData(eng engine.Engine) (data []mail.AccountID, err error) {
	shards, err := eng.Shards(r.ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range shards {
		if id, ok := store.AccountOf(s); ok {
			data = append(data, id)
		}
	}
	return data, nil
}

func (r *repairer) mendDirectory(eng engine.Engine, data []mail.AccountID) error {
	return directory.Repair(r.ctx, eng, data, r.give, time.Now(), func(m directory.Mended) {
		if m.Lost {
			r.other++
		}
		if m.Refused {
			r.refused = append(r.refused, m.What)
		}
		_ = r.tell(repairLine{Event: "mended", Account: int64(m.Account), Address: m.Address, Lost: m.Lost, Refused: m.Refused, What: m.What})
	})
}

// createAnew has accounts that the directory knows, and of which no record is left, be there
// again.
func (r *repairer) createAnew(st *store.Store, known, data []mail.AccountID) error {
	for _, id := range known {
		if slices.Contains(data, id) {
			continue
		}
		r.other++
		r.hurt[r.addresses[id]] = true
		_ = r.tell(repairLine{Event: "mended", Account: int64(id), Address: r.addresses[id], Lost: true, What: "the account had no record left; it is there again, empty"})
		if err := st.CreateAccount(r.ctx, id, store.Quota{}); err != nil {
			return err
		}
	}
	return nil
}

func (r *repairer) mendAccounts(st *store.Store, known, data []mail.AccountID) error {
	total := int64(len(known) + len(data))
	last, at := mail.AccountID(0), int64(0)
	return st.Repair(r.ctx, append(known, data...), func(m store.Mended) {
		if m.Account != last {
			last = m.Account
			at++
			r.progress("accounts with something to mend", at, total, repairLine{})
		}
		r.mended(m)
	})
}

func (r *repairer) mended(m store.Mended) {
	if m.Lost {
		r.lost += max(m.Count, 1)
	}
	if m.Gone {
		r.other++
	}
	if m.Lost || m.Gone {
		r.hurt[r.name(m.Account)] = true
	}
	_ = r.tell(repairLine{Event: "mended", Account: int64(m.Account), Address: r.addresses[m.Account], Mailbox: m.Mailbox, UID: int64(m.UID), Subject: m.Subject, From: m.From,
		Lost: m.Lost || m.Gone, What: m.What})
}

// mendedQueue tells of a queued message, and keeps, durably, what is left of one that cannot
// be sent.
func (r *repairer) mendedQueue(m queue.Mended) error {
	l := repairLine{Event: "mended", QueueID: m.ID.String(), Lost: m.Lost, What: m.What}
	if !m.From.IsZero() {
		l.From = m.From.String()
	}
	for _, to := range m.To {
		l.To = append(l.To, to.String())
	}
	if m.Lost {
		r.other++
		if err := r.keepQueued(m); err != nil {
			return failed("what is left of the queued message %s cannot be kept: %v; it is still in the store, make room and run the repair again", m.ID, err)
		}
	}
	return r.tell(l)
}

func (r *repairer) keepQueued(m queue.Mended) error {
	dir := filepath.Join(r.away, "queue")
	if err := makeFolder(dir); err != nil {
		return err
	}
	for end, content := range map[string][]byte{".eml": m.Content, ".records": m.Envelope} {
		if len(content) == 0 {
			continue
		}
		if err := writeDurably(filepath.Join(dir, m.ID.String()+end), content); err != nil {
			return err
		}
	}
	return syncFolder(dir)
}

func writeDurably(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// known are the accounts of the directory.
func (r *repairer) known(eng engine.Engine, st *store.Store) (ids []mail.AccountID, err error) {
	d, err := directory.Open(r.ctx, eng, st, directory.Options{Now: time.Now, Rand: rand.Reader})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	for a, err := range d.Accounts(r.ctx, "") {
		if err != nil {
			return nil, err
		}
		ids = append(ids, a.ID)
		r.addresses[a.ID] = a.Address.String()
	}
	return ids, nil
}

func (r *repairer) name(id mail.AccountID) string {
	if a := r.addresses[id]; a != "" {
		return a
	}
	return fmt.Sprintf("account %d", id)
}

// tellHoles tells of each range of records that could not be read whose it was and what it
// held, as far as its keys say.
func (r *repairer) tellHoles() {
	for _, h := range r.holes {
		l := repairLine{Event: "unreadable", File: h.File, Lost: true}
		switch {
		case h.Bodies:
			continue // whose body is gone is known
		case h.Commits:
			l.What = "some of the last changes before the server stopped, of any account, are lost"
		default:
			if l.What = r.held(h); l.What == "" {
				continue
			}
			l.What = "records could not be read: " + l.What + "; what no other file had of them is lost"
		}
		r.ranges++
		_ = r.tell(l)
	}
}

// held says what lies in a range of keys.
func (r *repairer) held(h pebble.Hole) string {
	var of []string
	inside := func(shard uint64) (from, to []byte, ok bool) {
		if uint64(h.From.Shard) == shard {
			from = h.From.Key
		}
		if uint64(h.To.Shard) == shard {
			to = h.To.Key
		}
		return from, to, uint64(h.From.Shard) <= shard && (shard < uint64(h.To.Shard) || shard == uint64(h.To.Shard) && len(to) > 0)
	}
	if _, _, ok := inside(uint64(store.DirectoryShard)); ok {
		of = append(of, "the directory")
	}
	if _, _, ok := inside(uint64(store.QueueShard)); ok {
		of = append(of, "the queue")
	}
	if _, _, ok := inside(uint64(link.Shard)); ok {
		of = append(of, "the links")
	}
	for _, id := range slices.Sorted(maps.Keys(r.addresses)) {
		from, to, ok := inside(uint64(store.ShardOf(id)))
		if !ok {
			continue
		}
		if what := store.Held(from, to); len(what) > 0 {
			r.hurt[r.name(id)] = true
			of = append(of, r.name(id)+" ("+strings.Join(what, ", ")+")")
		}
	}
	if id, ok := store.AccountOf(h.To.Shard); ok && r.addresses[id] == "" && len(h.To.Key) > 0 {
		of = append(of, fmt.Sprintf("accounts up to number %d, of which nothing else is known", id))
	}
	return strings.Join(of, "; ")
}

// incomplete says in one line that something is gone, and what to do.
func (r *repairer) incomplete() string {
	var gone []string
	if r.lost > 0 {
		gone = append(gone, counted(int64(r.lost), "message"))
	}
	if r.ranges > 0 {
		gone = append(gone, counted(int64(r.ranges), "range")+" of records")
	}
	if r.other > 0 {
		gone = append(gone, counted(int64(r.other), "other record"))
	}
	are := "are"
	if r.lost+r.ranges+r.other == 1 {
		are = "is"
	}
	whose := slices.Sorted(maps.Keys(r.hurt))
	if n := len(whose); n > 5 {
		whose = append(whose[:5], fmt.Sprintf("%d others", n-5))
	}
	of := ""
	if len(whose) > 0 {
		of = ", of " + strings.Join(whose, ", ")
	}
	return fmt.Sprintf("repaired, but %s %s lost%s; the report and what was replaced lie in %s; to have it back, start the server and restore from a backup: martlet restore DIR --account ADDRESS --merge",
		strings.Join(gone, ", "), are, of, r.away)
}

// progress shows how far a phase is: a bar on a terminal, a line of JSON elsewhere.
func (r *repairer) progress(what string, at, total int64, l repairLine) {
	if r.json {
		if l.Event != "" {
			_ = r.tell(l)
		}
		return
	}
	if !isTerminal(r.errOut) {
		return
	}
	if r.bar == nil {
		r.bar = progressbar.NewOptions64(max(total, 1), progressbar.OptionSetWriter(r.errOut), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false))
	}
	r.bar.ChangeMax64(max(total, 1))
	r.bar.Describe(what)
	_ = r.bar.Set64(min(at, max(total, 1)))
}

// sizeOf returns the bytes of the files of a folder.
func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
