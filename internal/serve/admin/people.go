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

// accountCalls are the calls about accounts and what lies in them.
func (a *api) accountCalls() map[string]handler {
	return map[string]handler{
		"GET /v1/accounts":                            a.listAccounts,
		"POST /v1/accounts":                           a.addAccount,
		"GET /v1/accounts/{address}":                  a.showAccount,
		"DELETE /v1/accounts/{address}":               a.removeAccount,
		"PUT /v1/accounts/{address}/password":         a.setPassword,
		"PUT /v1/accounts/{address}/quota":            a.setQuota,
		"GET /v1/accounts/{address}/mailboxes":        a.listMailboxes,
		"GET /v1/accounts/{address}/export":           a.listExport,
		"GET /v1/accounts/{address}/export/{mailbox}": a.exportMessages,
		"GET /v1/accounts/{address}/deleted":          a.listDeleted,
		"POST /v1/accounts/{address}/undelete":        a.undelete,
	}
}

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

// accountListed is a line of the list, with what is still to come of its password.
type accountListed struct {
	accountLine
	Foreign bool `json:"foreign,omitempty"`
	Waiting bool `json:"waiting,omitempty"`
}

func lineOf(acct directory.Account) accountLine {
	return accountLine{acct.Address.String(), acct.ID, acct.Created.UTC()}
}

func (a *api) listAccounts(r *request) error {
	for acct, err := range a.Directory.Accounts(r.ctx, r.URL.Query().Get("domain")) {
		if err != nil {
			return err
		}
		line := accountListed{accountLine: lineOf(acct)}
		s, err := a.Directory.LoginOf(r.ctx, acct.ID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		line.Foreign, line.Waiting = s.Foreign, s.Waiting
		if err := r.send(line); err != nil {
			return err
		}
	}
	return nil
}

type accountAnswer struct {
	accountLine
	loginAnswer
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
	if out.loginAnswer, err = a.loginOf(r, acct.ID); err != nil {
		return err
	}
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
	Password *string `json:"password"`          // null or left out: make one
	Hash     string  `json:"hash,omitempty"`    // instead of it: one that another server made
	Waiting  bool    `json:"waiting,omitempty"` // instead of it: the domain's former server knows it
}

type passwordAnswer struct {
	Address  string `json:"address"`
	Password string `json:"password,omitempty"` // only if it was made here
	Scheme   string `json:"scheme,omitempty"`   // of a hash
	Waiting  bool   `json:"waiting,omitempty"`
	Warning  string `json:"warning,omitempty"`
}

// chosen returns the login given, or one with a new password, and what to answer.
func (a *api) chosen(in passwordIn, addr mail.Address) (directory.Login, passwordAnswer, error) {
	answer := passwordAnswer{Address: addr.String()}
	switch {
	case in.Hash != "" && (in.Password != nil || in.Waiting) || in.Password != nil && in.Waiting:
		return directory.Login{}, answer, fault.New(fault.Invalid, "password, hash and waiting exclude one another")
	case in.Hash != "":
		h, err := a.Directory.ParseHash(in.Hash)
		if err != nil {
			return directory.Login{}, answer, err
		}
		answer.Scheme = h.Scheme()
		if _, plain := h.Plain(); plain {
			answer.Warning = "the password was given in the clear: it is hashed now, but who has seen the input knows it"
		}
		return directory.Login{Hash: in.Hash}, answer, nil
	case in.Waiting:
		answer.Waiting = true
		return directory.Login{Waiting: true}, answer, nil
	case in.Password != nil:
		if *in.Password == "" {
			return directory.Login{}, answer, fault.New(fault.Invalid, "the password is empty")
		}
		return directory.Login{Password: *in.Password}, answer, nil
	}
	pw, err := NewPassword(a.Rand)
	answer.Password = pw
	return directory.Login{Password: pw}, answer, err
}

// loginAnswer tells how an account's password is kept.
type loginAnswer struct {
	Scheme  string `json:"password_scheme"`   // argon2id is ours; "": none is known here
	Foreign bool   `json:"foreign,omitempty"` // as another server made it, until the next login with the password
	Waiting bool   `json:"waiting,omitempty"` // it will be known at the first login
}

func (a *api) loginOf(r *request, id mail.AccountID) (loginAnswer, error) {
	s, err := a.Directory.LoginOf(r.ctx, id)
	return loginAnswer(s), err
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
	login, answer, err := a.chosen(in.passwordIn, addr)
	if err != nil {
		return err
	}
	if _, err := a.Directory.AddAccountWith(r.ctx, addr, login, in.quota()); err != nil {
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
	login, answer, err := a.chosen(in, acct.Address)
	if err != nil {
		return err
	}
	if err := a.Directory.SetLogin(r.ctx, acct.Address, login); err != nil {
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
	who, err := a.Directory.Lookup(r.ctx, addr)
	if err != nil {
		return err
	}
	if err := a.Directory.RemoveAccount(r.ctx, addr); err != nil {
		return err
	}
	if a.Links != nil {
		if err := a.Links.RemoveAccount(r.ctx, who.ID); err != nil {
			return err
		}
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
