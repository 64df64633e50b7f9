package discover

import (
	"regexp"
	"slices"
	"strings"
)

// filters are those who take mail for others only to look at it and pass it on: where they are the
// mail host of a domain, it says nothing about who keeps the mailboxes.
var filters = []string{
	"antispamcloud.com", "antispameurope.com", "appriver.com", "arsmtp.com", "barracuda.com", "barracudanetworks.com", "cisco.com", "cloudfilter.net",
	"cloudflare.net", "cudamail.com", "duocircle.com", "emailsecurity.trendmicro.com", "expurgate.net", "fireeyecloud.com", "fireeyegov.com",
	"forwardemail.net", "forwardmx.io", "fusemail.net", "hornetsecurity.com", "improvmx.com", "iphmx.com", "mailchannels.net", "mailcontrol.com",
	"maileig.com", "mailgun.org", "mailprotector.net", "mailroute.net", "mailspamprotection.com", "mandrillapp.com", "messagelabs.com", "mimecast.co.za",
	"mimecast.com", "mimecast-offshore.com", "mtaroutes.com", "mxlogic.net", "mxthunder.com", "mxthunder.net", "n-able.com", "postmarkapp.com", "ppe-hosted.com", "pphosted.com",
	"protection.sophos.com", "reflexion.net", "registrar-servers.com", "retarus.com", "sendgrid.net", "simplelogin.co", "solarwinds.com", "sophos.com",
	"spamexperts.com", "spamexperts.eu", "spamexperts.net", "spamh.com", "spamtitan.com", "sparkpostmail.com", "symanteccloud.com", "trendmicro.com", "trendmicro.eu",
	"trustwave.com", "vadesecure.com", "zerospam.ca", "amazonaws.com", "amazonses.com", "anonaddy.me", "addy.io", "mxguarddog.com", "pawmail.net",
}

// isFilter tells whether a mail host is of one who only passes mail on.
func isFilter(host string) bool {
	return slices.ContainsFunc(filters, func(f string) bool { return host == f || strings.HasSuffix(host, "."+f) })
}

// rented are the names that hosters and access providers give the machines and lines of all their
// customers: they have the address in them, or a label that says so.
var rented = regexp.MustCompile(`(^|[^0-9])[0-9]{1,3}[-.][0-9]{1,3}[-.][0-9]{1,3}[-.][0-9]{1,3}([^0-9]|$)|` +
	`\.(adsl|cable|clients|cust|customer|customers|dedicated|dsl|dyn|dynamic|dynamicip|fios|hsd1|lightspeed|pool|res|static|vps)[0-9]*\.`)

// ownersMail tells whether the owner of a mail host's name may be who keeps the mailboxes.
func ownersMail(host string) bool { return !isFilter(host) && !rented.MatchString(host) }
