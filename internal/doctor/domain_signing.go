package doctor

import (
	"bytes"
	"context"
	"crypto/rsa"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/publish"
)

// keyRecord is what should be there of a key.
func keyRecord(k directory.SigningKey) publish.Record {
	return publish.Record{Name: publish.DKIMName(k), Type: "TXT", Value: publish.DKIMText(k)}
}

func keys(dom publish.Domain, states ...directory.KeyState) []directory.SigningKey {
	return slices.DeleteFunc(slices.Clone(dom.Keys), func(k directory.SigningKey) bool { return !slices.Contains(states, k.State) })
}

// published compares keys with the DNS.
func (d *Doctor) published(ctx context.Context, what string, all []directory.SigningKey) finding {
	for _, k := range all {
		f := publish.Compare(ctx, d.Resolver, []publish.Record{keyRecord(k)}, nil)[0]
		switch f.Status {
		case publish.Missing:
			return fail(put(f.Record), "the %s %s (%s) is not in the DNS", what, k.Selector, k.Algorithm)
		case publish.Wrong:
			return fail("replace it: "+put(f.Record), "the %s %s in the DNS is another than the one here: %s", what, k.Selector, strings.Join(f.Found, " | "))
		case publish.Unknown:
			return skip("%s", f.Note)
		}
	}
	return ok("the %s is in the DNS as it is here (%d)", what, len(all))
}

func (d *Doctor) dkim(ctx context.Context, dom publish.Domain) finding {
	active := keys(dom, directory.KeyActive)
	switch {
	case !dom.Settings.Sign:
		return warn("martlet domain set "+dom.Name+" sign=yes", "mail of %s is not signed, by its settings", dom.Name)
	case len(active) == 0:
		return fail("martlet domain keys "+dom.Name, "%s has no key that signs", dom.Name)
	}
	return d.published(ctx, "signing key", active)
}

func (d *Doctor) dkimNext(ctx context.Context, dom publish.Domain) finding {
	coming := keys(dom, directory.KeyNext, directory.KeyRetired)
	if len(coming) == 0 || !dom.Settings.Sign {
		return ok("no keys of %s are about to change", dom.Name)
	}
	f := d.published(ctx, "next or former key", coming)
	if f.status == Fail {
		f.status = Warn
	}
	return f
}

func (d *Doctor) dkimStrength(_ context.Context, dom publish.Domain) finding {
	for _, k := range keys(dom, directory.KeyActive) {
		if public, isRSA := k.Signer.Public().(*rsa.PublicKey); isRSA && public.N.BitLen() < 2048 {
			return warn("martlet domain rotate "+dom.Name, "the key %s has %d bits; 2048 are asked for (RFC 8301)", k.Selector, public.N.BitLen())
		}
	}
	return ok("the keys are strong enough")
}

// dkimSignature signs and verifies as a receiver does, by the keys in the DNS.
func (d *Doctor) dkimSignature(ctx context.Context, dom publish.Domain) finding {
	active := keys(dom, directory.KeyActive)
	if !dom.Settings.Sign || len(active) == 0 {
		return skip("nothing is signed")
	}
	header := fmt.Sprintf("From: postmaster@%s\r\nTo: postmaster@%s\r\nSubject: doctor\r\nDate: %s\r\nMessage-ID: <doctor@%s>\r\n\r\n",
		dom.Name, dom.Name, d.Now().UTC().Format(time.RFC1123Z), dom.Name)
	const body = "Is this signature good?\r\n"
	for _, k := range active {
		fields, err := dkim.Sign([]byte(header), strings.NewReader(body), []dkim.Key{{Domain: k.Domain, Selector: k.Selector, Signer: k.Signer}}, dkim.SignOptions{Now: d.Now()})
		if err != nil {
			return fail("martlet domain rotate "+dom.Name, "the key %s does not sign: %v", k.Selector, err)
		}
		signed := bytes.Join([][]byte{fields, []byte(header)}, nil)
		open := func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
		results := dkim.Verify(ctx, d.Resolver, signed, open, dkim.VerifyOptions{Now: d.Now()})
		switch {
		case len(results) == 1 && results[0].Status == "pass":
		case len(results) == 1 && results[0].Status == "temperror":
			return skip("%s", results[0].Reason)
		default:
			why := "there is no result"
			if len(results) > 0 {
				why = fmt.Sprintf("%s, %s", results[0].Status, results[0].Reason)
			}
			return fail(put(keyRecord(k)), "what the key %s signs is not verified by the key in the DNS: %s", k.Selector, why)
		}
	}
	return ok("what is signed here is verified by the keys in the DNS")
}

func (d *Doctor) dkimAge(_ context.Context, dom publish.Domain) finding {
	for _, k := range keys(dom, directory.KeyActive) {
		// The server does it by itself where it can; a person is reminded at twice the time.
		if age := d.Now().Sub(k.Activated); d.Rotate > 0 && age > 2*d.Rotate {
			return warn("martlet domain rotate "+dom.Name, "the key %s signs for %s already; the longer, the more it is worth to thieves", k.Selector, days(age))
		}
	}
	return ok("the keys are not too old")
}

func (d *Doctor) dkimStale(ctx context.Context, dom publish.Domain) finding {
	for _, r := range publish.Stale(dom) {
		if texts, _, err := d.Resolver.LookupTXT(ctx, r.Name); err == nil && len(texts) > 0 {
			return warn("take out of the DNS: "+r.Name+" TXT", "a key that signs nothing any more is still in the DNS: %s", r.Name)
		}
	}
	return ok("no key is in the DNS that should not be")
}

// dmarcRecord finds the one record of a domain itself.
func (d *Doctor) dmarcRecord(ctx context.Context, dom publish.Domain) (dmarc.Record, finding) {
	want, _ := d.wanted(dom, "_dmarc."+dom.Name, "TXT")
	texts, _, err := d.Resolver.LookupTXT(ctx, "_dmarc."+dom.Name)
	if err != nil && !notThere(err) {
		return dmarc.Record{}, unanswered(err)
	}
	var found []dmarc.Record
	for _, t := range texts {
		if r, is := dmarc.ParseRecord(t); is {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 0:
		return dmarc.Record{}, fail(put(want), "%s has no DMARC record, which Gmail, Yahoo and Outlook want", dom.Name)
	case len(found) > 1:
		return dmarc.Record{}, fail("leave one of the TXT records of _dmarc."+dom.Name+": "+want.Value, "%s has %d DMARC records, and so none counts", dom.Name, len(found))
	case found[0].Malformed:
		return dmarc.Record{}, fail("replace it: "+put(want), "the DMARC record of %s is malformed: %s", dom.Name, found[0].Text)
	}
	return found[0], finding{}
}

func (d *Doctor) dmarc(ctx context.Context, dom publish.Domain) finding {
	r, wrong := d.dmarcRecord(ctx, dom)
	if wrong.status != "" {
		return wrong
	}
	return ok("%s has a DMARC record: %s", dom.Name, r.Text)
}

func (d *Doctor) dmarcPolicy(ctx context.Context, dom publish.Domain) finding {
	r, wrong := d.dmarcRecord(ctx, dom)
	want, _ := d.wanted(dom, "_dmarc."+dom.Name, "TXT")
	switch {
	case wrong.status != "":
		return skip("there is no DMARC record to look at")
	case string(r.Policy) != dom.Settings.DMARC:
		return warn("replace it: "+put(want)+"; or: martlet domain set "+dom.Name+" dmarc="+string(r.Policy), "the DMARC policy in the DNS is %s, and %s is set here", r.Policy, dom.Settings.DMARC)
	case r.Policy == dmarc.PolicyNone:
		return ok("forged mail of %s is only reported (p=none); once reports show that all of yours passes: martlet domain set %s dmarc=quarantine", dom.Name, dom.Name)
	}
	return ok("others are asked to %s forged mail of %s", r.Policy, dom.Name)
}

func (d *Doctor) dmarcReports(ctx context.Context, dom publish.Domain) finding {
	r, wrong := d.dmarcRecord(ctx, dom)
	if wrong.status != "" {
		return skip("there is no DMARC record to look at")
	}
	if len(r.RUA) == 0 {
		if dom.Settings.DMARCReports == "" {
			return ok("no reports are wanted, by the settings of %s", dom.Name)
		}
		want, _ := d.wanted(dom, "_dmarc."+dom.Name, "TXT")
		return warn("replace it: "+put(want), "the DMARC record of %s asks for no reports (rua)", dom.Name)
	}
	for _, uri := range r.RUA {
		to, is := dmarc.MailTo(uri)
		if !is {
			return warn("replace it by mailto: and an address in the DMARC record of "+dom.Name, "%s is no address that reports can be sent to", uri)
		}
		if f := d.takesMail(ctx, to, dom); f.status != OK {
			return f
		}
	}
	return ok("reports about %s go to %s", dom.Name, strings.Join(r.RUA, ", "))
}

// takesMail tells whether an address, here or elsewhere, takes mail as far as can be seen.
func (d *Doctor) takesMail(ctx context.Context, to mail.Address, dom publish.Domain) finding {
	local := slices.ContainsFunc(d.Domains, func(o publish.Domain) bool { return o.Name == strings.ToLower(to.Domain) })
	if !local {
		if _, _, err := d.Resolver.LookupMX(ctx, to.Domain); notThere(err) {
			return warn("name another address: martlet domain set "+dom.Name+" dmarc-reports=ADDRESS", "reports go to %s, and %s has no mail host", to, to.Domain)
		}
		return ok("")
	}
	if d.Exists == nil {
		return ok("")
	}
	found, err := d.Exists(ctx, to)
	if err == nil && !found {
		return warn("martlet alias add "+to.String()+" ADDRESS", "reports go to %s, which does not exist", to)
	}
	return ok("")
}

func (d *Doctor) dmarcElsewhere(ctx context.Context, dom publish.Domain) finding {
	r, wrong := d.dmarcRecord(ctx, dom)
	if wrong.status != "" || len(r.RUA) == 0 {
		return skip("there are no reports to look at")
	}
	for _, uri := range r.RUA {
		_, allowed, err := dmarc.ReportTo(ctx, d.Resolver, dom.Name, uri)
		if err != nil {
			return unanswered(err)
		}
		if !allowed {
			if to, is := dmarc.MailTo(uri); is {
				return warn(put(publish.Record{Name: dom.Name + "._report._dmarc." + to.Domain, Type: "TXT", Value: "v=DMARC1"}), "%s has not said that it takes reports about %s, so none are sent there", to.Domain, dom.Name)
			}
		}
	}
	return ok("whoever is to get reports about %s has agreed", dom.Name)
}
