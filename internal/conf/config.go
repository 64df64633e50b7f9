package conf

import "net/netip"

// Config is the whole configuration. Its fields in order are the file; the comment
// of a field is what `martlet config show` prints as its meaning, and its tag holds
// the default. Tags: toml (key), default (as written in the file, commas between the
// elements of a list), oneof (allowed words), min and max (of a number), secret ("url":
// only the passwords in a connection string are).
type Config struct {
	// Name of this host in greetings, Received fields and reports; its DNS address
	// and reverse entry should agree with it.
	Hostname Hostname `toml:"hostname" default:"localhost"`

	// Folder that holds all mail and state; relative to this file.
	Data Path `toml:"data" default:"data"`

	// User of this machine that the server becomes once its ports are bound, if root starts
	// it; he needs to be able to read the certificate and its key, and owns the data folder.
	// Empty changes nothing.
	User string `toml:"user" default:""`

	// Networks whose clients may log in without TLS and are not counted by the limits
	// per address.
	Trusted []netip.Prefix `toml:"trusted" default:"127.0.0.0/8,::1/128"`

	// One block for each address the server listens on.
	Listen []Listen `toml:"listen"`

	// Certificate of this host.
	TLS TLS `toml:"tls"`

	// Logging in with access tokens of an issuer (OAUTHBEARER, XOAUTH2).
	OAuth OAuth `toml:"oauth"`

	// Accounts that come from another server.
	Migrate Migrate `toml:"migrate"`

	// Accounts that are kept in step with mailboxes elsewhere.
	Links Links `toml:"links"`

	// Where mailboxes and the queue are kept.
	Store Store `toml:"store"`

	// Where message bodies are kept.
	Blobs Blobs `toml:"blobs"`

	// What nodes are to each other that share a store.
	Cluster Cluster `toml:"cluster"`

	// How addresses are read.
	Addresses Addresses `toml:"addresses"`

	// Mail that comes in over SMTP, submission and LMTP.
	SMTP SMTP `toml:"smtp"`

	// What is checked of mail from strangers, and what becomes of it.
	Checks Checks `toml:"checks"`

	// Other hosts that nobody knows.
	Guard Guard `toml:"guard"`

	// What people who send mail may ask for, and how much they may send.
	Submission Submission `toml:"submission"`

	// Outside programs that look at mail.
	Milters []Milter `toml:"milter"`

	// Mail that goes out to other hosts.
	Queue Queue `toml:"queue"`

	// Domains that this host is a backup of.
	BackupMX []BackupMX `toml:"backup_mx"`

	// Reading mail over IMAP.
	IMAP IMAP `toml:"imap"`

	// Collecting mail over POP3.
	POP3 POP3 `toml:"pop3"`

	// What one client, account or message may use.
	Limits Limits `toml:"limits"`

	// Whether deleted mail can be given back, and for how long.
	Deleted Deleted `toml:"deleted"`

	// What mail programs are told of this server.
	Autoconfig Autoconfig `toml:"autoconfig"`

	// Records of the domain name system.
	DNS DNS `toml:"dns"`

	// Keys that sign outgoing mail.
	DKIM DKIM `toml:"dkim"`

	// What is known afterwards of each message's way.
	Trace Trace `toml:"trace"`

	// What other domains are told, and tell, of mail.
	Reports Reports `toml:"reports"`

	// Whom "martlet doctor" asks.
	Doctor Doctor `toml:"doctor"`

	// How the settings of other providers are found.
	Discover Discover `toml:"discover"`

	// How other commands of this machine reach the running server.
	Admin Admin `toml:"admin"`

	// What is logged, to standard error.
	Log Log `toml:"log"`
}

// Listen is one listener.
type Listen struct {
	// Protocol spoken there: smtp, lmtp, submission, submissions, imap, imaps, pop3,
	// pop3s, http or https.
	Protocol Protocol `toml:"protocol" default:"" oneof:"smtp|lmtp|submission|submissions|imap|imaps|pop3|pop3s|http|https"`

	// Host and port, for example ":25", "127.0.0.1:143" or "[::1]:993".
	Address Address `toml:"address" default:""`

	// "implicit" from the first byte, "starttls" by a command, or "none"; left out, it
	// is what the protocol's name says.
	TLS TLSMode `toml:"tls" default:"" oneof:"implicit|starttls|none"`

	// Serve mail clients from before 1996, too: IMAP2, IMAP2bis and IMAP4 (RFC 1176, RFC
	// 1730). Only for imap and imaps; most such clients know no TLS.
	Legacy bool `toml:"legacy" default:"false"`

	// Networks of proxies (HAProxy, a load balancer) whose connections begin with a header of
	// the PROXY protocol, version 1 or 2, that names the client; a connection of theirs
	// without one is refused. A header of anybody else counts for nothing. Not for http.
	Proxies []netip.Prefix `toml:"proxies" default:""`
}

// TLS names the certificate.
type TLS struct {
	// PEM file with the certificate chain; read again when it changes.
	Certificate Path `toml:"certificate" default:""`

	// PEM file with the private key; read again when it changes.
	Key Path `toml:"key" default:""`

	// Oldest TLS version that clients may use, "1.2" or "1.3".
	MinVersion string `toml:"min_version" default:"1.2" oneof:"1.2|1.3"`

	// PEM file with the authorities that sign certificates of clients; if it is given,
	// mail programs are asked for one and can log in with it (EXTERNAL). The e-mail
	// address in the certificate names the account. Empty asks nobody.
	ClientCA Path `toml:"client_ca" default:""`

	// PEM file with revocation lists of these authorities; read again when it changes.
	// Empty revokes nothing.
	ClientCRL Path `toml:"client_crl" default:""`

	// Whether SCRAM with channel binding (the -PLUS mechanisms) is offered. Turn it off if
	// programs of yours choose it and fail, as neomutt of Debian 12 does; a man in the
	// middle with a stolen or bought certificate is then not found out.
	ChannelBinding bool `toml:"channel_binding" default:"true"`

	// Accounts of certificates that have no e-mail address, or another one.
	Clients []Client `toml:"client"`

	// Certificates from an authority that gives them by itself, such as Let's Encrypt. They
	// are kept in the data folder and renewed after two thirds of their time; the
	// authority asks this server over a listener for http (its port 80) or https (443).
	ACME ACME `toml:"acme"`
}

// ACME says who gives certificates (RFC 8555).
type ACME struct {
	// Whether certificates come from there. The certificate of certificate and key, if
	// there is one, is used until the first has come.
	Enabled bool `toml:"enabled" default:"false"`

	// Directory of the authority. Using Let's Encrypt means to agree to its terms of
	// service.
	Directory URL `toml:"directory" default:"https://acme-v02.api.letsencrypt.org/directory"`

	// Address at which the authority may reach you.
	Email EmailAddress `toml:"email" default:""`

	// Names to be in certificates; empty means the hostname.
	Names []Hostname `toml:"names" default:""`

	// Whether the names of hosted domains that clients use get certificates, too, within ten
	// minutes after DNS leads them here: the domain itself, mail., imap., smtp., pop., autoconfig., autodiscover., mta-sts.
	// and ua-auto-config. of each.
	Domains bool `toml:"domains" default:"true"`

	// PEM file with the authorities that sign the directory's own certificate; empty means
	// those of the system.
	CA Path `toml:"ca" default:""`
}

// Client maps a certificate to an account.
type Client struct {
	// Subject of the certificate, as "openssl x509 -noout -subject -nameopt RFC2253"
	// prints it, for example "CN=alice,O=Example".
	Subject string `toml:"subject" default:""`

	// Address of the account.
	Account EmailAddress `toml:"account" default:""`
}

// OAuth says whose access tokens are taken and what they must say.
type OAuth struct {
	// Issuer of the tokens, as their claim iss has it: an https URL, such as
	// https://login.example.org/realms/main. Empty takes no tokens.
	Issuer URL `toml:"issuer" default:""`

	// What tokens for this server have in their claim aud, one of these.
	Audience []string `toml:"audience" default:""`

	// Scope that tokens must have; empty asks for none.
	Scope string `toml:"scope" default:""`

	// Claim that names the account. An e-mail address counts only if the issuer does not
	// say that it is unverified.
	Claim string `toml:"claim" default:"email"`

	// Domain that is added to a name without one; empty adds none.
	Domain Hostname `toml:"domain" default:""`

	// "signature" checks tokens here, with the issuer's keys; "introspection" asks the
	// issuer about each (RFC 7662), for tokens that only he can read.
	Check string `toml:"check" default:"signature" oneof:"signature|introspection"`

	// Where the issuer's keys are; empty means where its configuration
	// (.well-known/openid-configuration) says.
	JWKSURL URL `toml:"jwks_url" default:""`

	// Where the issuer is asked about tokens; empty means where its configuration says.
	IntrospectionURL URL `toml:"introspection_url" default:""`

	// Name under which this server asks the issuer.
	ClientID string `toml:"client_id" default:""`

	// File whose first line is the secret of client_id.
	ClientSecretFile Path `toml:"client_secret_file" default:""`

	// PEM file with the authorities that sign the issuer's certificate; empty means those
	// of the system.
	CA Path `toml:"ca" default:""`
}

// Addresses says how local parts are read.
type Addresses struct {
	// Character that begins a detail: with "+", bob+lists@example.org is bob's; empty
	// turns details off.
	DetailSeparator Separator `toml:"detail_separator" default:"+"`

	// Account or alias that gets mail for postmaster where a domain has no such address;
	// empty means the first account (RFC 5321, 4.5.1).
	Postmaster EmailAddress `toml:"postmaster" default:""`
}

// SMTP holds what all three SMTP dialects share.
type SMTP struct {
	// Most recipients of one message (RFC 5321, 4.5.3.1.8 asks for at least 100).
	RecipientsLimit int `toml:"recipients_limit" default:"1000" min:"100" max:"100000"`

	// "refuse" answers a bare CR or LF in a message with an error; "normalise" turns it
	// into CRLF. Neither ever ends a message.
	BareLineEndings string `toml:"bare_line_endings" default:"refuse" oneof:"refuse|normalise"`

	// Received fields after which a message is taken to run in a circle.
	ReceivedLimit int `toml:"received_limit" default:"100" min:"10" max:"1000"`

	// Refuses a submitted message whose From or Sender field is not an address of the
	// login. The sender of the envelope is always checked.
	CheckFrom bool `toml:"check_from" default:"false"`

	// Marks what is delivered with $hasattachment or $hasnoattachment (RFC 9979, 4), so
	// that clients need not look into each message. It costs some bytes of each FLAGS.
	MarkAttachments bool `toml:"mark_attachments" default:"false"`

	// Time a client may be silent (RFC 5321, 4.5.3.2.7).
	IdleTimeout Duration `toml:"idle_timeout" default:"5m" min:"10s"`
}

// Queue holds what concerns mail to other hosts.
type Queue struct {
	// Host that takes all outgoing mail, instead of the hosts that DNS names.
	Smarthost Smarthost `toml:"smarthost"`

	// DNS server as host:port; empty means those of /etc/resolv.conf.
	Resolver Address `toml:"resolver" default:""`

	// Whether the DNS server checks DNSSEC and the way to it is safe, so that what it marks
	// as authenticated is: DANE needs that. One on this machine is believed without.
	ResolverValidates bool `toml:"resolver_validates" default:"false"`

	// Port of other hosts that mail goes to.
	Port int `toml:"port" default:"25" min:"1" max:"65535"`

	// Whether MTA-STS policies of other domains are asked for and followed (RFC 8461).
	MTASTS bool `toml:"mta_sts" default:"true"`

	// PEM file with the authorities that sign certificates of other mail hosts and of
	// MTA-STS policy hosts; empty means those of the system.
	CA Path `toml:"ca" default:""`

	// Own addresses that connections are made from, for example one of IPv4 and one of
	// IPv6; of several in one family each domain gets its own. Empty lets the system choose.
	SourceAddresses []netip.Addr `toml:"source_addresses" default:""`

	// Time that a connection waits for the next message to the same host; 0 ends it at once.
	ConnectionIdle Duration `toml:"connection_idle" default:"4s"`

	// Messages over one connection.
	ConnectionMessages int `toml:"connection_messages" default:"100" min:"1" max:"100000"`

	// Own ways for some domains.
	Route []Route `toml:"route"`

	// Own schedules for some domains.
	Schedule []Schedule `toml:"schedule"`

	// Gaps between attempts; the last one repeats.
	Retry []Duration `toml:"retry" default:"1m,5m,15m,30m,1h,2h,4h" min:"1s"`

	// Age at which a message that could not be sent goes back to its sender.
	MaxAge Duration `toml:"max_age" default:"5d" min:"1m"`

	// Age at which the sender is told that a message waits; 0 means never.
	DelayNotice Duration `toml:"delay_notice" default:"4h"`

	// Connections at the same time to one domain at most. It begins with a few; how many
	// there are follows the answers.
	ConcurrencyPerDomain int `toml:"concurrency_per_domain" default:"20" min:"1" max:"1000"`

	// Connections at the same time to all domains.
	Concurrency int `toml:"concurrency" default:"50" min:"1" max:"10000"`

	// Whether mail may go to loopback and private addresses that DNS names.
	AllowPrivate bool `toml:"allow_private" default:"false"`
}

// Smarthost is a relay with authentication.
type Smarthost struct {
	// Name or address; empty means that there is no smarthost.
	Host string `toml:"host" default:""`

	// Port there: 587 with starttls, 465 with implicit.
	Port int `toml:"port" default:"587" min:"1" max:"65535"`

	// Login name; empty means no authentication.
	Username string `toml:"username" default:""`

	// Password; better kept in a file of its own, see password_file.
	Password string `toml:"password" default:"" secret:"true"`

	// File whose first line is the password.
	PasswordFile Path `toml:"password_file" default:""`

	// "implicit" and "starttls" insist on TLS and a valid certificate; "none" is for
	// a host on this machine.
	TLS TLSMode `toml:"tls" default:"starttls" oneof:"implicit|starttls|none"`
}

// IMAP holds what only IMAP has.
type IMAP struct {
	// Time a client may be silent, also in IDLE (RFC 9051, 5.4 asks for 30 minutes).
	IdleTimeout Duration `toml:"idle_timeout" default:"30m" min:"1m"`

	// Messages that one command may fetch, search, change, copy or move, at least 1000;
	// 0 is any number. Clients that do not know MESSAGELIMIT (RFC 9738) then see only
	// the newest messages of a larger mailbox.
	MessageLimit int `toml:"message_limit" default:"0" min:"0" max:"1000000000"`

	// Messages that one command may copy or append, at least 1000; 0 is any number. In
	// place of message_limit, for a server that limits nothing else.
	SaveLimit int `toml:"save_limit" default:"0" min:"0" max:"1000000000"`

	// Accounts of submission servers, which may read what others have released to them by
	// URL (URLAUTH with submit+). The submission of this server needs none.
	Submitters []EmailAddress `toml:"submitters" default:""`

	// Accounts that may set the quotas of all by SETQUOTA (RFC 9208).
	Admins []EmailAddress `toml:"admins" default:""`
}

// POP3 holds what only POP3 has.
type POP3 struct {
	// Time a client may be silent (RFC 1939, 3 asks for 10 minutes).
	IdleTimeout Duration `toml:"idle_timeout" default:"10m" min:"1m"`
}

// Limits bound what others may use.
type Limits struct {
	// Largest message, over SMTP, LMTP and IMAP APPEND.
	MessageSize Size `toml:"message_size" default:"50MB" min:"64KiB"`

	// Connections at the same time, over all listeners.
	Connections int `toml:"connections" default:"20000" min:"1" max:"10000000"`

	// Connections at the same time from one IPv4 address or IPv6 /64 that have not logged in.
	ConnectionsPerAddress int `toml:"connections_per_address" default:"100" min:"1" max:"10000000"`

	// Logged-in connections at the same time of one account, over all protocols and addresses.
	ConnectionsPerAccount int `toml:"connections_per_account" default:"100" min:"1" max:"10000000"`

	// Time that a client may keep the server waiting within one command, besides one second
	// for each 100 bytes; likewise for what it is sent and does not take.
	Stall Duration `toml:"stall" default:"2m" min:"5s"`

	// Time within which a client of IMAP, POP3 or submission must have logged in, counted
	// from its first byte, whatever it says meanwhile.
	LoginTime Duration `toml:"login_time" default:"3m" min:"10s"`

	// Time that one command of IMAP may work, without what it waits for its client and for
	// the disk; then it is given up with NO [LIMIT].
	CommandTime Duration `toml:"command_time" default:"10m" min:"1s"`

	// Processors that accounts share: an account that works beside others has those that they
	// leave, or its part of all where they leave none. 0 is as many as there are; many more,
	// and whoever has most connections has most.
	Processors int `toml:"processors" default:"0" min:"0" max:"1000000"`

	// Time for one request over HTTP, from its first byte to the last of its answer.
	RequestTime Duration `toml:"request_time" default:"30s" min:"1s"`

	// Wrong commands after which a connection is closed.
	Errors int `toml:"errors" default:"10" min:"1" max:"1000"`

	// Failed logins after which a connection is closed.
	LoginFailures int `toml:"login_failures" default:"3" min:"1" max:"100"`

	// Failed logins that one account may collect from everywhere before it must wait.
	LoginFailuresPerAccount int `toml:"login_failures_per_account" default:"20" min:"1" max:"10000"`

	// Failed logins that one IPv4 address or IPv6 /64 may collect before it must wait.
	LoginFailuresPerAddress int `toml:"login_failures_per_address" default:"40" min:"1" max:"10000"`

	// Time after which one failed login is forgiven.
	LoginForgiveness Duration `toml:"login_forgiveness" default:"30s" min:"1s"`

	// Memory that password checks may use at the same time.
	PasswordMemory Size `toml:"password_memory" default:"128MiB" min:"32MiB"`

	// Time for which a password that was right is known again without the work that makes
	// guessing slow, until it is changed; no password is kept for it, and nothing that was
	// wrong is known. 0 means never.
	PasswordKnown Duration `toml:"password_known" default:"10m" min:"0s"`
}

// Deleted says what becomes of mail that is expunged, or whose mailbox is deleted.
type Deleted struct {
	// Time for which deleted mail is kept and can be given back, by the user over IMAP and
	// by "martlet undelete": for example "30d". It counts in no quota. 0 keeps none, and
	// what was kept goes within a day. An account that is removed takes its mail along.
	Keep Duration `toml:"keep" default:"0"`

	// Mailbox of each account that it lies in; it is there while anything is. Of an account
	// that has a mailbox of this name already it gets another number.
	Mailbox string `toml:"mailbox" default:"Recently Deleted"`

	// Most messages kept of one account; if there are more, the oldest go before their
	// time. 0 is any number.
	Messages int `toml:"messages" default:"1000000" min:"0" max:"1000000000"`

	// Most that is kept of one account; as above. 0 is any size.
	Size Size `toml:"size" default:"5GB"`
}

// Admin holds the way in for commands.
type Admin struct {
	// Unix socket; empty means admin.sock in the data folder.
	Socket Path `toml:"socket" default:""`
}

// Log says what is logged.
type Log struct {
	// Least important kind of event that is logged: "debug", "info", "warn" or "error".
	Level string `toml:"level" default:"info" oneof:"debug|info|warn|error"`

	// "text" for people, "json" for programs.
	Format string `toml:"format" default:"text" oneof:"text|json"`
}
