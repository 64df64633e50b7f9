package clients

import (
	"testing"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/fault"
)

func sample() discover.Answer {
	a := discover.Answer{Address: "a@here.example", Domain: "here.example"}
	for i, p := range []string{"imap", "pop3", "smtp"} {
		a.Services = append(a.Services, discover.Service{Protocol: p, Host: p + ".here.example", Port: []int{993, 995, 465}[i], Security: discover.TLS, Username: a.Address, Auth: []string{"password"}})
	}
	return a
}

// sound fails on what no program could use.
func sound(t *testing.T, all []discover.Service, err error) {
	t.Helper()
	if err != nil {
		if k := fault.Of(err); k == fault.Internal || len(all) > 0 {
			t.Fatalf("%v of kind %v with %d services", err, k, len(all))
		}
		return
	}
	for _, s := range all {
		if !hostname(s.Host) || s.Port < 1 || s.Protocol == "" || s.Security != discover.TLS && s.Security != discover.StartTLS && s.Security != "none" {
			t.Fatalf("%+v", s)
		}
	}
}

// A document is read to servers that can be used, or refused with a reason; whoever reads it
// strictly has no more than whoever does not.
func FuzzConfig(f *testing.F) {
	good, _ := format.Autoconfig(sample(), format.Provider{Help: "https://here.example/"})
	f.Add(good)
	f.Add([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><clientConfig/>`))
	f.Add([]byte(`<clientConfig><emailProvider id="a.b"><domain>a.b</domain><incomingServer type="imap"><hostname>%EMAILDOMAIN%</hostname></incomingServer></emailProvider></clientConfig>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		loose, err := readConfig(body, "a@here.example", false)
		sound(t, loose, err)
		strict, serr := readConfig(body, "a@here.example", true)
		sound(t, strict, serr)
		if serr == nil && (err != nil || len(strict) > len(loose)) {
			t.Fatalf("strictly %d, else %d, %v", len(strict), len(loose), err)
		}
	})
}

// An answer of Autodiscover is read to servers, or refused with a reason.
func FuzzPOX(f *testing.F) {
	f.Add([]byte(`<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"><Account><AccountType>email</AccountType><Action>settings</Action><Protocol><Type>IMAP</Type><Server>a.b</Server><Port>993</Port><SSL>on</SSL></Protocol></Account></Response></Autodiscover>`))
	f.Add([]byte(`<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response><Error><ErrorCode>600</ErrorCode></Error></Response></Autodiscover>`))
	f.Add([]byte(`<!DOCTYPE a><a/>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		all, err := readPOX(body)
		for i := range all {
			if all[i].Protocol == "" {
				all[i].Protocol = "none" // passed over by whoever looks for one
			}
		}
		sound(t, all, err)
	})
}

// A profile, signed or not, and a PACC document are read to servers, or refused with a reason.
func FuzzProfile(f *testing.F) {
	profile, _ := format.Mobileconfig(sample(), format.Provider{}, "", false)
	f.Add(profile)
	pacc, _ := format.PACC(sample(), format.Provider{})
	f.Add(pacc)
	f.Add([]byte{0x30, 0x80, 0x06, 0x09})
	f.Fuzz(func(t *testing.T, body []byte) {
		all, err := readProfile(body)
		sound(t, all, err)
		all, err = readPACC(body, "a@here.example")
		sound(t, all, err)
	})
}
