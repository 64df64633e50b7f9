package report

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
)

// A stranger's domain says where reports about it go, and of TLS reports nobody is asked
// whether he takes them. These bounds keep it from having somebody flooded: of a kind, in a
// day.
const (
	maxTargets = 10  // places that one record can name
	maxAbroad  = 2   // of these, outside of the domain's organization
	maxUnasked = 10  // reports to an organization that has not said that it takes them
	maxAsked   = 200 // to one that has, in DNS: many domains have theirs read by one and the same
	maxAbout   = 20  // about one organization
)

// target is where a report goes.
type target struct {
	uri   string       // as the domain has it, without a size
	to    mail.Address // of a mailto:
	limit int64        // bytes that it takes; 0: any number
	asks  bool         // its host says in DNS that it takes reports about the domain

	about  string // the organization that the report is about
	abroad string // that of the place, if it is another
}

// targets finds out where a report is wanted. why says what is wrong with other places.
func (b *Book) targets(ctx context.Context, p pending) (list []target, why string, err error) {
	if p.kind == TLS {
		return b.tlsTargets(ctx, p.domain)
	}
	record, ok := dmarc.ParseRecord(p.Policy)
	if !ok || len(record.RUA) == 0 {
		return nil, "", nil
	}
	var wrong []string
	for _, uri := range record.RUA[:min(len(record.RUA), maxTargets)] {
		to, ok, err := dmarc.ReportTo(ctx, b.opt.Resolver, p.domain, uri)
		switch {
		case err != nil:
			return nil, "", err
		case !ok:
			wrong = append(wrong, "no report goes to "+clip(uri)+": it is no address, or its domain does not say that it takes reports about "+p.domain)
		case !slices.ContainsFunc(list, func(t target) bool { return t.to.Folded() == to.Folded() }):
			list = append(list, target{uri: "mailto:" + to.String(), to: ascii(to), limit: limitOf(p.Policy, uri), asks: true})
		}
	}
	list, more := b.near(ctx, p.domain, list)
	return list, strings.Join(append(wrong, more...), "; "), nil
}

func (b *Book) tlsTargets(ctx context.Context, domain string) (list []target, why string, err error) {
	texts, _, err := b.opt.Resolver.LookupTXT(ctx, "_smtp._tls."+domain)
	switch {
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Invalid):
		return nil, "", nil
	case err != nil:
		return nil, "", err
	}
	var wrong []string
	for _, uri := range tlsrpt.Wanted(texts) {
		if strings.HasPrefix(strings.ToLower(uri), "https:") {
			list = append(list, target{uri: uri})
		} else if to, ok := dmarc.MailTo(uri); ok {
			list = append(list, target{uri: "mailto:" + to.String(), to: ascii(to)})
		} else {
			wrong = append(wrong, "no report goes to "+clip(uri)+": it is no address")
		}
	}
	list, more := b.near(ctx, domain, list)
	return list, strings.Join(append(wrong, more...), "; "), nil
}

// ascii is an address with its domain in A-labels, which any host knows.
func ascii(a mail.Address) mail.Address {
	if name, err := dnsx.ASCII(a.Domain); err == nil {
		a.Domain = name
	}
	return a
}

// limitOf reads the size that may stand behind a URI in the rua of a record, as in
// mailto:a@example.org!10m (RFC 7489, 6.2; RFC 9989 has given it up, records have not); 0 is none.
func limitOf(record, uri string) int64 {
	_, rest, ok := strings.Cut(record, uri+"!")
	if !ok {
		return 0
	}
	digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	n, err := strconv.ParseInt(digits, 10, 40)
	if err != nil || n == 0 {
		return 0
	}
	if rest = rest[len(digits):]; rest != "" {
		if i := strings.IndexByte("kmgt", rest[0]|0x20); i >= 0 && n < 1<<20 {
			n <<= 10 * (i + 1)
		}
	}
	return n
}

// near finds out which places are of a domain's own organization, and leaves out those of
// others that are too many.
func (b *Book) near(ctx context.Context, domain string, all []target) (list []target, wrong []string) {
	if len(all) == 0 {
		return nil, nil
	}
	about, n := b.organizationOf(ctx, domain), 0
	for _, t := range all {
		t.about = about
		if there := b.organizationOf(ctx, t.host()); there != about {
			if n++; n > maxAbroad {
				wrong = append(wrong, "no report goes to "+clip(t.uri)+": it is one of too many outside of "+about)
				continue
			}
			t.abroad = there
		}
		list = append(list, t)
	}
	return list, wrong
}

// organizationOf returns the Organizational Domain, or the domain itself if that cannot be
// known: then whoever is called by another name counts as another.
func (b *Book) organizationOf(ctx context.Context, domain string) string {
	if name, err := dmarc.Organization(ctx, b.opt.Resolver, domain); err == nil {
		return name
	}
	return strings.ToLower(strings.TrimSuffix(domain, "."))
}

// host is who gets what goes there.
func (t target) host() string {
	if !t.to.IsZero() {
		return t.to.Domain
	}
	u, err := url.Parse(t.uri)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// reserve counts a report before it goes out, and is a fault if that is one too many today.
func (b *Book) reserve(ctx context.Context, kind Kind, t target) error {
	return b.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		for _, r := range t.rooms(kind, dayOf(b.opt.Now())) {
			n, err := taken(w, r.key)
			if err != nil {
				return err
			}
			if n >= r.most {
				return fault.Newf(fault.Denied, "no more than %d reports %s go out in a day", r.most, r.whose)
			}
			if err := w.Put(r.key, encodeCount(n+1, "")); err != nil {
				return err
			}
		}
		return nil
	})
}

// giveBack is for a report that did not go out. If it fails, there is one less.
func (b *Book) giveBack(ctx context.Context, kind Kind, t target) {
	err := b.opt.Engine.Update(context.WithoutCancel(ctx), Shard, func(w engine.Writer) error {
		for _, r := range t.rooms(kind, dayOf(b.opt.Now())) {
			n, err := taken(w, r.key)
			if err != nil || n == 0 {
				return err
			}
			if err := w.Put(r.key, encodeCount(n-1, "")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.opt.Log.Warn("a report that did not go out counts as one that did", "to", t.uri, "err", err)
	}
}

// taken reads a count of reserve. One that cannot be read begins anew.
func taken(w engine.Writer, key []byte) (uint64, error) {
	v, found, err := w.Get(key)
	if err != nil || !found {
		return 0, err
	}
	n, _, _ := decodeCount(v)
	return n, nil
}

// room is how many reports may go out in a day.
type room struct {
	key   []byte
	most  uint64
	whose string
}

func (t target) rooms(kind Kind, on day) []room {
	list := []room{{append(place{kind, on, t.about}.prefix(famRoom), 0, 'a'), maxAbout, "about " + t.about}}
	if t.abroad == "" {
		return list
	}
	most := uint64(maxUnasked)
	if t.asks {
		most = maxAsked
	}
	return append(list, room{append(place{kind, on, t.abroad}.prefix(famRoom), 0, 't'), most, "to " + t.abroad})
}
