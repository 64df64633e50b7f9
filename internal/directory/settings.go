package directory

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Settings are what is set for a domain. A field is added here and as a row of
// settingRows, and nowhere else: what is stored are names and texts.
type Settings struct {
	Domain string // in A-labels

	Sign     bool   // whether mail of the domain is signed (DKIM)
	SignWith string // by which algorithms: both, ed25519, rsa

	DMARC        string // what others shall do with forged mail: none, quarantine, reject
	DMARCReports string // address that gets reports of it; "": nobody
	Forged       string // what becomes of forged mail for the domain: "" (as the server does), policy, reject, junk, mark, report

	MTASTS     string        // mode of the policy: none, testing, enforce
	MTASTSAge  time.Duration // for which others keep it
	TLSReports string        // address that gets reports of failed TLS; "": nobody

	SendPerHour int // messages that the domain's accounts may send; 0: as many as they like
	SendPerDay  int

	MigrateFrom   server // where the domain's mail was before; "": nowhere
	MigrateUser   string // what its accounts are called there: address, localpart
	MigrateUntil  day    // when it is not asked any more; "": as long as it is set
	MigrateCreate bool   // whether a login makes an account that the former server knows
	MigrateMail   string // whether the mail there is fetched after a first login: yes, no, link
}

// Setting is one of them as a person sees it.
type Setting struct {
	Name, Value, Default string
	Meaning              string
}

// settingRow says how a setting is called, what it is if nothing is stored, where its value
// is, and which words it can be (none: any of its type).
type settingRow struct {
	name, def string
	at        func(*Settings) any // *string, *address, *bool, *int or *time.Duration
	words     string
	meaning   string
}

// settingRows in the order in which they are shown. A default with an @ in front is an
// address of the domain itself.
var settingRows = []settingRow{
	{"sign", "yes", func(s *Settings) any { return &s.Sign }, "", "whether mail of the domain is signed with its keys (DKIM)"},
	{"sign-with", "both", func(s *Settings) any { return &s.SignWith }, "both|ed25519|rsa", "algorithms of the signatures; some large hosts know RSA alone, which takes twenty times as long"},
	{"dmarc", "none", func(s *Settings) any { return &s.DMARC }, "none|quarantine|reject", "what others shall do with mail that only says that it is from the domain: deliver it and report, put it apart, refuse it"},
	{"dmarc-reports", "postmaster@", func(s *Settings) any { return (*address)(&s.DMARCReports) }, "", "address for reports of who sends mail in the domain's name; - for none"},
	{"forged", "", func(s *Settings) any { return &s.Forged }, "|policy|reject|junk|mark|report", "what becomes of forged mail to the domain: what its sender's policy says, or refuse, put into Junk, mark or only report it; empty is what the configuration says"},
	{"mta-sts", "testing", func(s *Settings) any { return &s.MTASTS }, "none|testing|enforce", "whether others may send mail to the domain only over TLS with a valid certificate (MTA-STS)"},
	{"mta-sts-age", "604800s", func(s *Settings) any { return &s.MTASTSAge }, "", "time for which others hold on to this"},
	{"tls-reports", "postmaster@", func(s *Settings) any { return (*address)(&s.TLSReports) }, "", "address for reports of deliveries to the domain that failed for TLS; - for none"},
	{"send-per-hour", "0", func(s *Settings) any { return &s.SendPerHour }, "", "messages that all accounts of the domain together may send in an hour; 0 is any number"},
	{"send-per-day", "0", func(s *Settings) any { return &s.SendPerDay }, "", "the same in a day"},
	{"migrate-from", "", func(s *Settings) any { return &s.MigrateFrom }, "", "the domain's former server, such as imaps://old.example:993: it is asked whether a password is right when somebody logs in for the first time to an account that waits for that (martlet account add --waiting)"},
	{"migrate-user", "address", func(s *Settings) any { return &s.MigrateUser }, "address|localpart", "what accounts are called there"},
	{"migrate-until", "", func(s *Settings) any { return &s.MigrateUntil }, "", "day such as 2027-03-31 from which on it is not asked any more; empty is as long as migrate-from is set"},
	{"migrate-create", "no", func(s *Settings) any { return &s.MigrateCreate }, "", "whether a login makes an account that is not here, if the former server knows it with this password"},
	{"migrate-mail", "yes", func(s *Settings) any { return &s.MigrateMail }, "yes|no|link", "whether the mailbox there is fetched: yes is after a first login, and what has come since at later ones; no takes only the password over; link keeps the account in step by a stored link (martlet link), for which the password is kept sealed"},
}

// address is a setting that is a mail address, or - for none.
type address string

// Settings returns what is set for a domain; of one that is not local, the defaults.
func (d *Directory) Settings(ctx context.Context, domain string) (Settings, error) {
	name := canonicalDomain(domain)
	generation := d.cache.now()
	if was, ok := lookup(&d.cache, &d.cache.settings, name); ok {
		return was, nil
	}
	stored, local, err := d.stored(ctx, name)
	if err != nil {
		return Settings{}, err
	}
	s := settingsOf(name, stored)
	if local {
		keep(&d.cache, &d.cache.settings, generation, name, s)
	}
	return s, nil
}

// stored returns the settings of a domain that are not the defaults.
func (d *Directory) stored(ctx context.Context, name string) (stored map[string]string, local bool, err error) {
	if _, local, err = d.domain(ctx, name); err != nil || !local {
		return nil, local, err
	}
	err = d.eng.View(ctx, shard, func(r engine.Reader) error {
		stored, err = readSettings(r, name)
		return err
	})
	return stored, true, err
}

// settingsOf reads stored texts. One that is none any more counts as not stored: a value
// that a later version knows must not stop mail.
func settingsOf(name string, stored map[string]string) Settings {
	s := Settings{Domain: name}
	for _, row := range settingRows {
		text, ok := stored[row.name]
		if !ok || row.set(&s, text) != nil {
			_ = row.set(&s, row.def) // a test sets them all
		}
	}
	return s
}

// AllSettings returns them in the order of the table. Faults: NotFound.
func (d *Directory) AllSettings(ctx context.Context, domain string) ([]Setting, error) {
	written, name, err := parseDomain(domain)
	if err != nil {
		return nil, err
	}
	stored, local, err := d.stored(ctx, name)
	if err != nil {
		return nil, err
	}
	if !local {
		return nil, fault.Newf(fault.NotFound, "domain %s is not one of this server", written)
	}
	all := make([]Setting, len(settingRows))
	for i, row := range settingRows {
		all[i] = Setting{row.name, row.def, row.def, row.meaning}
		if strings.HasSuffix(row.def, "@") {
			all[i].Default += name
			all[i].Value = all[i].Default
		}
		if text, ok := stored[row.name]; ok {
			all[i].Value = text
		}
	}
	return all, nil
}

// Set changes settings of a domain, all or none. The empty text brings the default back.
// Faults: NotFound, Invalid.
func (d *Directory) Set(ctx context.Context, domain string, values map[string]string) error {
	_, name, err := parseDomain(domain)
	if err != nil {
		return err
	}
	for key, text := range values {
		i := slices.IndexFunc(settingRows, func(r settingRow) bool { return r.name == key })
		if i < 0 {
			return fault.Newf(fault.Invalid, "a domain has no setting %q; it has %s", key, settingNames())
		}
		if text == "" {
			continue
		}
		if err := settingRows[i].set(&Settings{Domain: name}, text); err != nil {
			return err
		}
	}
	return d.update(ctx, func(w engine.Writer) error {
		if _, err := needDomain(w, name); err != nil {
			return err
		}
		stored, err := readSettings(w, name)
		if err != nil {
			return err
		}
		for key, text := range values {
			if text == "" {
				delete(stored, key)
			} else {
				stored[key] = text
			}
		}
		if len(stored) == 0 {
			return w.Delete(settingsKey(name))
		}
		return w.Put(settingsKey(name), encodeSettings(stored))
	})
}

func settingNames() string {
	var names []string
	for _, r := range settingRows {
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}

// set reads a text into the setting's field.
func (r settingRow) set(s *Settings, text string) error {
	wrong := func(want string) error {
		return fault.Newf(fault.Invalid, "%s is %s, not %q", r.name, want, text)
	}
	switch at := r.at(s).(type) {
	case *string:
		if !slices.Contains(strings.Split(r.words, "|"), text) {
			return wrong("one of " + strings.ReplaceAll(strings.TrimPrefix(r.words, "|"), "|", ", "))
		}
		*at = text
	case *address:
		switch {
		case text == "-":
			*at = ""
		case strings.HasSuffix(text, "@"):
			*at = address(text + s.Domain)
		default:
			a, err := mail.ParseAddress(text)
			if err != nil || a.Domain == "" || strings.ContainsAny(text, ",;! \t") {
				return wrong("an address such as postmaster@example.org, or - for none")
			}
			*at = address(text)
		}
	case *server:
		if text != "" && !parseServer(text) {
			return wrong("a server such as imaps://old.example:993, without a path or a user")
		}
		*at = server(text)
	case *day:
		if _, err := time.Parse(time.DateOnly, text); text != "" && err != nil {
			return wrong("a day such as 2027-03-31")
		}
		*at = day(text)
	case *bool:
		if text != "yes" && text != "no" {
			return wrong("yes or no")
		}
		*at = text == "yes"
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 1e9 {
			return wrong("a number from 0 on")
		}
		*at = n
	case *time.Duration:
		t, err := time.ParseDuration(text)
		if err != nil || t < 0 || t > 10*365*24*time.Hour {
			return wrong("a time such as 168h")
		}
		*at = t
	}
	return nil
}

// readSettings returns what is stored, an empty map if nothing is.
func readSettings(r engine.Reader, name string) (map[string]string, error) {
	_, dec, found, err := get(r, settingsKey(name), recSettings)
	if err != nil || !found {
		return map[string]string{}, err
	}
	return decodeSettings(dec)
}

func decodeSettings(d *decoder) (map[string]string, error) {
	stored := map[string]string{}
	for range d.Count() {
		name := d.Str()
		stored[name] = d.Str()
	}
	return stored, d.done()
}

func encodeSettings(stored map[string]string) []byte {
	names := make([]string, 0, len(stored))
	for name := range stored {
		names = append(names, name)
	}
	slices.Sort(names)
	b := binary.AppendUvarint(nil, uint64(len(names)))
	for _, name := range names {
		b = appendBytes(appendBytes(b, name), stored[name])
	}
	return seal(recSettings, b)
}
