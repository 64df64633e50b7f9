package admin

import (
	"io"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

type domainLine struct {
	Domain   string    `json:"domain"`
	CatchAll string    `json:"catch_all,omitempty"`
	Created  time.Time `json:"created"`
}

func (a *api) listDomains(r *request) error {
	domains, err := a.Directory.Domains(r.ctx)
	if err != nil {
		return err
	}
	for _, d := range domains {
		if err := r.send(domainLine{d.Name, d.CatchAll.String(), d.Created.UTC()}); err != nil {
			return err
		}
	}
	return nil
}

type addedDomain struct {
	Domain    string   `json:"domain"`
	Selectors []string `json:"selectors"` // of the keys that sign its mail
}

func (a *api) addDomain(r *request) error {
	var in struct {
		Domain string `json:"domain"`
	}
	if err := r.read(&in); err != nil {
		return err
	}
	name, err := parseDomain(in.Domain)
	if err != nil {
		return err
	}
	if err := a.Directory.AddDomain(r.ctx, name); err != nil {
		return err
	}
	keys, err := a.Directory.MakeKeys(r.ctx, name)
	if err != nil {
		return err
	}
	out := addedDomain{Domain: name}
	for _, k := range keys {
		out.Selectors = append(out.Selectors, k.Selector)
	}
	return r.send(out)
}

type removedDomain struct {
	Removed string   `json:"removed"`
	DNS     []string `json:"dns,omitempty"` // records that were made here and are still there
}

func (a *api) removeDomain(r *request) error {
	name, err := parseDomain(r.PathValue("domain"))
	if err != nil {
		return err
	}
	made, err := a.Directory.Published(r.ctx, name) // forgotten with the domain
	if err != nil {
		return err
	}
	if err := a.Directory.RemoveDomain(r.ctx, name); err != nil {
		return err
	}
	out := removedDomain{Removed: name}
	for _, m := range made {
		out.DNS = append(out.DNS, m.Name+" "+m.Type+" "+m.Value)
	}
	return r.send(out)
}

type accountLine struct {
	Address string         `json:"address"`
	ID      mail.AccountID `json:"id"`
	Created time.Time      `json:"created"`
}

func lineOf(acct directory.Account) accountLine {
	return accountLine{acct.Address.String(), acct.ID, acct.Created.UTC()}
}

func (a *api) listAccounts(r *request) error {
	for acct, err := range a.Directory.Accounts(r.ctx, r.URL.Query().Get("domain")) {
		if err != nil {
			return err
		}
		if err := r.send(lineOf(acct)); err != nil {
			return err
		}
	}
	return nil
}

type accountAnswer struct {
	accountLine
	Mailboxes     int   `json:"mailboxes"`
	Messages      int64 `json:"messages"`
	Bytes         int64 `json:"bytes"`
	QuotaBytes    int64 `json:"quota_bytes"`    // 0: no limit
	QuotaMessages int64 `json:"quota_messages"` // 0: no limit
}

func (a *api) showAccount(r *request) error {
	acct, err := a.lookup(r)
	if err != nil {
		return err
	}
	out := accountAnswer{accountLine: lineOf(acct)}
	err = a.Store.Account(acct.ID).View(r.ctx, func(s *store.Snapshot) error {
		boxes, err := s.Mailboxes()
		quota, used := s.Quota()
		out.Mailboxes, out.Messages, out.Bytes = len(boxes), used.Messages, used.Bytes
		out.QuotaBytes, out.QuotaMessages = quota.Bytes, quota.Messages
		return err
	})
	if err != nil {
		return err
	}
	return r.send(out)
}

// lookup finds the account in the path.
func (a *api) lookup(r *request) (directory.Account, error) {
	addr, err := r.address()
	if err != nil {
		return directory.Account{}, err
	}
	return a.Directory.Lookup(r.ctx, addr)
}

type passwordIn struct {
	Password *string `json:"password"` // null or left out: make one
}

type passwordAnswer struct {
	Address  string `json:"address"`
	Password string `json:"password,omitempty"` // only if it was made here
}

// chosen returns the password given, or a new one and what to answer.
func (a *api) chosen(in *string, addr mail.Address) (string, passwordAnswer, error) {
	if in != nil {
		if *in == "" {
			return "", passwordAnswer{}, fault.New(fault.Invalid, "the password is empty")
		}
		return *in, passwordAnswer{Address: addr.String()}, nil
	}
	pw, err := NewPassword(a.Rand)
	return pw, passwordAnswer{addr.String(), pw}, err
}

func (a *api) addAccount(r *request) error {
	var in struct {
		Address string `json:"address"`
		passwordIn
		quotaIn
	}
	if err := r.read(&in); err != nil {
		return err
	}
	addr, err := parseAddress(in.Address)
	if err != nil {
		return err
	}
	pw, answer, err := a.chosen(in.Password, addr)
	if err != nil {
		return err
	}
	if _, err := a.Directory.AddAccount(r.ctx, addr, pw, in.quota()); err != nil {
		return err
	}
	return r.send(answer)
}

func (a *api) setPassword(r *request) error {
	var in passwordIn
	if err := r.read(&in); err != nil {
		return err
	}
	acct, err := a.lookup(r)
	if err != nil {
		return err
	}
	pw, answer, err := a.chosen(in.Password, acct.Address)
	if err != nil {
		return err
	}
	if err := a.Directory.SetPassword(r.ctx, acct.Address, pw); err != nil {
		return err
	}
	return r.send(answer)
}

type quotaIn struct {
	Bytes    int64 `json:"quota_bytes"`
	Messages int64 `json:"quota_messages"`
}

func (q quotaIn) quota() store.Quota { return store.Quota{Bytes: q.Bytes, Messages: q.Messages} }

func (a *api) setQuota(r *request) error {
	var in quotaIn
	if err := r.read(&in); err != nil {
		return err
	}
	if in.Bytes < 0 || in.Messages < 0 {
		return fault.New(fault.Invalid, "a quota is not negative; 0 is no limit")
	}
	acct, err := a.lookup(r)
	if err != nil {
		return err
	}
	err = a.Store.Account(acct.ID).Update(r.ctx, func(tx *store.Tx) error {
		tx.SetQuota(in.quota())
		return nil
	})
	if err != nil {
		return err
	}
	return r.send(struct {
		Address string `json:"address"`
		quotaIn
	}{acct.Address.String(), in})
}

func (a *api) removeAccount(r *request) error {
	addr, err := r.address()
	if err != nil {
		return err
	}
	if err := a.Directory.RemoveAccount(r.ctx, addr); err != nil {
		return err
	}
	return r.send(map[string]string{"removed": addr.String()})
}

// passwordLetters are those that are not taken for one another in any typeface.
const passwordLetters = "abcdefghijkmnpqrstuvwxyz23456789"

// NewPassword returns a random password of 80 bits that can be typed on any keyboard
// and pasted into any shell.
func NewPassword(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fault.Wrap(fault.Internal, "", err)
	}
	var out strings.Builder
	for _, c := range b {
		out.WriteByte(passwordLetters[c&31])
	}
	return out.String(), nil
}
