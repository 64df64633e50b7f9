package discover

import (
	"strings"
	"testing"
)

// The domains of customers, by the mail hosts that providers tell them to name.
func TestMailHostsOfCustomDomains(t *testing.T) {
	for mx, want := range map[string]string{
		"aspmx.l.google.com": "imap.gmail.com", "smtp.google.com": "imap.gmail.com", "x-org.mail.protection.outlook.com": "outlook.office365.com",
		"x-org.p-v1.mx.microsoft": "outlook.office365.com", "in1-smtp.messagingengine.com": "imap.fastmail.com", "mx.zoho.com": "imappro.zoho.com", "mx.zoho.eu": "imappro.zoho.eu",
		"mx.zoho.in": "imappro.zoho.in", "mail.protonmail.ch": "127.0.0.1", "emx.mail.ru": "imap.mail.ru", "mx.yandex.net": "imap.yandex.com", "mxn.mxhichina.com": "imap.qiye.aliyun.com",
		"mx1.qiye.aliyun.com": "imap.qiye.aliyun.com", "mx.qiye.163.com": "qiye.163.com", "smtp.secureserver.net": "imap.secureserver.net", "mailstore1.europe.secureserver.net": "imap.secureserver.net",
		"mx00.ionos.de": "imap.ionos.de", "mx01.kundenserver.de": "imap.ionos.de", "mx1.mail.ovh.net": "ssl0.ovh.net", "mx4.ovh.net": "ssl0.ovh.net", "redirect.ovh.net": "ssl0.ovh.net",
		"mx1.titan.email": "imap.titan.email", "smtpin.rzone.de": "imap.strato.de", "mx-biz.mail.am0.yahoodns.net": "imap.mail.yahoo.com", "mx.zoho.com.au": "zoho.com.au", "spool.mail.gandi.net": "mail.gandi.net",
		"mx.zoho.jp": "zoho.jp", "mx.zoho.com.cn": "imap.zoho.com.cn", "mx.zoho.sa": "imap.zoho.sa", "mx1.privateemail.com": "mail.privateemail.com", "mx1.hostinger.com": "imap.hostinger.com", "www45.your-server.de": "mail.your-server.de",
		"mxbiz1.qq.com": "imap.exmail.qq.com", "mxbiz2.qq.com": "imap.exmail.qq.com", "mxdomain.qq.com": "imap.qq.com", "mx1.qq.com": "imap.qq.com",
		"aspmx1.migadu.com": "imap.migadu.com", "mxext1.mailbox.org": "imap.mailbox.org", "mta-gw.infomaniak.ch": "mail.infomaniak.com", "mx1.dreamhost.com": "imap.dreamhost.com",
		"mx1.mail.hostpoint.ch": "imap.mail.hostpoint.ch", "mx0.transip.email": "imap.transip.email",
		// By the provider's own domain.
		"mx01.posteo.de": "posteo.de", "mx1.riseup.net": "mail.riseup.net", "mx1.seznam.cz": "imap.seznam.cz",
		// Who passes mail on does not keep it.
		"mx.sendgrid.net": "", "mxa-001.gslb.pphosted.com": "",
	} {
		w := newWorld(t, "custom.net. MX 10 "+mx+".\n")
		if a := w.find("me@custom.net", offline); !strings.Contains(lines(a), want) || want == "" && len(a.Services) > 0 {
			t.Errorf("%s: %q %s", mx, a.Provider, lines(a))
		}
	}
}

// A machine or a line of one's own has a name that hosters and access providers give to all of
// them: it says nothing about mailboxes there.
func TestRentedHostsAreNotTheHostersMail(t *testing.T) {
	for _, mx := range []string{
		"static.4.3.2.1.clients.your-server.de", "mail.clients.your-server.de", "vps-1a2b3c4d.vps.ovh.net", "ns3012345.ovh.net", "ip-1-2-3-4.ip.secureserver.net", "s123.ovh.net",
		"static-71-1-2-3.fios.verizon.net", "c-73-1-2-3.hsd1.ca.comcast.net", "1-2-3-4.lightspeed.snantx.sbcglobal.net", "box.xs4all.nl", "81-1-2-3-no.static.telia.com",
		"ov-9e1b2c.infomaniak.ch", "apache2-bongo.pdx1.dreamhost.com", "host1-2-3-4.serverdedicati.aruba.it", "p5483.dip0.t-online.de", "smtp-1-2-3-4.comcast.net", "srv9.kundenserver.de",
	} {
		w := newWorld(t, "own-box.org. MX 10 "+mx+".\n"+
			"_imaps._tcp.own-box.org. SRV 0 1 993 box.own-box.org.\n_submissions._tcp.own-box.org. SRV 0 1 465 box.own-box.org.\n")
		want := "imap box.own-box.org:993 tls srv published\nsmtp box.own-box.org:465 tls srv published\n"
		if a := w.find("me@own-box.org", offline); lines(a) != want {
			t.Errorf("MX %s: %s: %s", mx, a.Provider, lines(a))
		}
		// And without records nobody is named who does not keep the mail.
		w = newWorld(t, "own-box.org. MX 10 "+mx+".\n")
		if a := w.find("me@own-box.org", offline); len(a.Services) > 0 {
			t.Errorf("MX %s: %s: %s", mx, a.Provider, lines(a))
		}
	}
}

// What the domain publishes goes before a provider that only has its own mail at the same host.
func TestOwnRecordsGoBeforeTheMailHostsDomain(t *testing.T) {
	mx := "own-mx.org. MX 10 mx01.posteo.de.\n"
	w := newWorld(t, mx+"_imaps._tcp.own-mx.org. SRV 0 1 993 mail.own-mx.org.\n_submissions._tcp.own-mx.org. SRV 0 1 465 mail.own-mx.org.\n")
	w.want(w.find("me@own-mx.org", offline, func(o *Options) { o.Explain = true }), "imap mail.own-mx.org:993 tls srv published\nsmtp mail.own-mx.org:465 tls srv published")
	w = newWorld(t, mx) // the control
	if got := marks(w.find("me@own-mx.org", offline)); got != "mx-table posteo.de insecure=false foreign=true" {
		t.Error(got)
	}
}

// The mail host is a filter's, who has servers of his own that nobody's mailbox is at.
func TestFiltersAreNotAskedForMailboxes(t *testing.T) {
	for mx, owner := range map[string]string{"mxa-001.gslb.pphosted.com": "pphosted.com", "eu-smtp-inbound-1.mimecast.com": "mimecast.com", "route1.mx.cloudflare.net": "cloudflare.net", "mx1.improvmx.com": "improvmx.com", "mx.keeper.net": "keeper.net"} {
		w := newWorld(t, "corp.net. MX 10 "+mx+".\nautoconfig."+owner+". A 203.0.113.12\nsmtp."+owner+". A 203.0.113.12\nimap."+owner+". A 203.0.113.12\n"+mx+". A 203.0.113.12\n")
		w.web("203.0.113.12", files(map[string]string{"/mail/config-v1.1.xml": configXML(owner)}), "autoconfig."+owner)
		w.mailAll("203.0.113.12", "smtp."+owner, "imap."+owner, mx)
		a := w.find("me@corp.net", offline)
		if control := owner == "keeper.net"; control != (len(a.Services) > 0) {
			t.Errorf("MX %s: %s", mx, lines(a))
		} else if !control && (len(w.dialed) > 0 || !strings.Contains(strings.Join(a.Notes, " "), "only filters it")) {
			t.Errorf("MX %s: %q, connected to %q", mx, a.Notes, w.dialed)
		}
	}
}
