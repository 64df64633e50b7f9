#!/usr/bin/perl
# Works through a mailbox with Perl's Mail::IMAPClient, as a program that copies mail
# from server to server does with it.
#
# Arguments: host, port, file of the certificate authority or "", user, password.
use strict;
use warnings;
use Mail::IMAPClient;

my ( $host, $port, $ca, $user, $password ) = @ARGV;

sub connected {
    my $c = Mail::IMAPClient->new(
        Server   => $host,
        Port     => $port,
        User     => $user,
        Password => $password,
        Uid      => 1,
        Peek     => 1,
        Timeout  => 30,
        ( $ca ? ( Ssl => [ SSL_ca_file => $ca, SSL_verifycn_name => 'localhost' ] ) : () ),
        @_
    ) or die "no connection: $@\n";
    return $c;
}

sub must {
    my ( $c, $is, $what ) = @_;
    die "$what: " . ( $c->LastError || 'false' ) . "\n" unless $is;
    return $is;
}

sub same {
    my ( $got, $want, $what ) = @_;
    die "$what: $got\nand not: $want\n" unless $got eq $want;
}

sub note {
    my ( $i, $lines ) = @_;
    return join "\r\n", "From: Perl <perl\@peers.example>", "To: you\@martlet.test", "Subject: perl $i",
        "Message-ID: <perl-$i\@peers.example>", "Date: Mon, 4 Mar 2024 10:11:1$i +0100", "", map { "line $_ of $i" } ( 1 .. $lines ), '';
}

my $c = connected();
same( $c->separator, '/', 'the separator' );
must( $c, $c->has_capability($_), "the word $_" ) for qw(UIDPLUS NAMESPACE IDLE);
$c->tag_and_run( 'ID ("name" "perl")' );
must( $c, $c->namespace, 'NAMESPACE' );

# Folders, the level above made by the server.
must( $c, $c->create('Perl/a/b'), 'CREATE' );
must( $c, $c->exists('Perl/a/b'), 'STATUS of what was made' );
must( $c, !$c->exists('Perl/none'), 'STATUS of what is not there' );
must( $c, $c->subscribe('Perl/a/b'), 'SUBSCRIBE' );
same( join( ' ', sort grep {/Perl/} $c->folders ),    'Perl Perl/a Perl/a/b', 'LIST' );
same( join( ' ', sort grep {/Perl/} $c->subscribed ), 'Perl/a/b',             'LSUB' );
must( $c, $c->is_parent('Perl/a'), 'LIST with \\HasChildren' );

# One folder is filled, with dates and flags, \Recent and keywords among them.
my ( @date, @flags );
for my $i ( 0 .. 9 ) {
    $date[$i] = sprintf '%02d-Mar-2024 10:11:1%d +0100', $i + 1, $i;
    $flags[$i] = join ' ', ( $i % 2 ? '\\Seen' : () ), ( $i % 3 ? () : '\\Flagged' ), ( $i % 4 ? () : 'perl$' );
    my $uid = $c->append_string( 'Perl/a/b', note( $i, 100 * $i ), "$flags[$i] \\Recent", $date[$i] );
    same( must( $c, $uid, 'APPEND' ), $i + 1, 'APPENDUID' );
}
must( $c, $c->examine('Perl/a/b'), 'EXAMINE' );
same( $c->message_count, 10, 'the count' );
same( join( ' ', $c->messages ), '1 2 3 4 5 6 7 8 9 10', 'UID SEARCH ALL' );

# The other end: all that makes a message must come back, and go to another folder as it is.
my $other = connected();
must( $other, $other->create('Perl/copy') && $other->select('Perl/copy'), 'a second session' );
my $all = must( $c, scalar $c->fetch_hash( 'FLAGS', 'INTERNALDATE', 'RFC822.SIZE', 'BODY.PEEK[HEADER.FIELDS (MESSAGE-ID SUBJECT)]' ), 'FETCH' );
for my $uid ( $c->messages ) {
    my $i = $uid - 1;
    my $m = $all->{$uid};
    same( $m->{'RFC822.SIZE'}, length note( $i, 100 * $i ), "the size of $uid" );
    must( $c, $m->{'BODY[HEADER.FIELDS (MESSAGE-ID SUBJECT)]'} =~ /perl-$i\@peers/, "headers of $uid: " . join ',', keys %$m );
    my $flags = join ' ', sort grep { !/Recent/ } split ' ', $m->{FLAGS};
    same( $flags, join( ' ', sort split ' ', $flags[$i] ), "flags of $uid" );
    my $text = must( $c, $c->message_string($uid), 'BODY[]' );
    same( $text, note( $i, 100 * $i ), "bytes of $uid" );
    must( $other, $other->append_string( 'Perl/copy', $text, $m->{FLAGS}, $m->{INTERNALDATE} ), 'APPEND of a copy' );
}
my $copy = must( $other, $other->select('Perl/copy') && scalar( $other->fetch_hash( 'FLAGS', 'INTERNALDATE', 'RFC822.SIZE' ) ), 'FETCH of copies' );
for my $uid ( 1 .. 10 ) {
    same( $copy->{$uid}{$_}, $all->{$uid}{$_}, "$_ of the copy of $uid" ) for qw(INTERNALDATE RFC822.SIZE);
}

# Searches by which such programs find what is there already.
same( join( ' ', $c->search( 'HEADER', 'Message-ID', $c->Quote('perl-3@peers.example') ) ), '4', 'SEARCH by Message-ID' );
same( join( ' ', $c->search( 'SENTSINCE', '1-Mar-2024', 'UNSEEN' ) ), '1 3 5 7 9', 'SEARCH by date' );
same( join( ' ', $c->since('05-Mar-2024') ), '5 6 7 8 9 10', 'SINCE by INTERNALDATE' );
same( join( ' ', $c->search('LARGER 8000') ), join( ' ', map { $_ + 1 } grep { length( note( $_, 100 * $_ ) ) > 8000 } 0 .. 9 ), 'LARGER' );
same( join( ' ', $c->sort( 'REVERSE SUBJECT', 'UTF-8', 'ALL' ) ), '10 9 8 7 6 5 4 3 2 1', 'SORT' );
same( scalar @{ $c->thread('ORDEREDSUBJECT') }, 10, 'THREAD' );

# Flags, copies, moves, deletions.
must( $c, $c->select('Perl/a/b'), 'SELECT' );
must( $c, $c->see( 1, 3 ), 'STORE +FLAGS' );
must( $c, $c->deny_seeing(2), 'STORE -FLAGS' );
must( $c, $c->store( '1:2', '+FLAGS.SILENT', '(perl2)' ), 'STORE of a keyword' );
same( $c->unseen_count, 4, 'the count of the unseen' );
must( $c, $c->copy( 'INBOX', 1, 2 ), 'COPY' );
must( $c, $c->move( 'Perl/a', [ 3, 4 ] ), 'MOVE' );
must( $c, $c->delete_message( 3, 4, 5 ) && $c->expunge, 'EXPUNGE' );
same( join( ' ', $c->messages ), '1 2 6 7 8 9 10', 'what is left' );
same( $c->message_count('Perl/a'), 2, 'what was moved' );
must( $c, $c->rename( 'Perl/a', 'Perl/z' ), 'RENAME' );
must( $c, $c->exists('Perl/z/b'), 'a child goes with its parent' );

# It idles, and is told.
my $tag = must( $c, $c->select('Perl/z/b') && $c->idle, 'IDLE' );
must( $other, $other->append_string( 'Perl/z/b', note( 0, 1 ) ), 'APPEND by the other' );
my @told = $c->idle_data(20);
must( $c, scalar( grep {/8 EXISTS/} @told ), "EXISTS: @told" );
must( $c, $c->done($tag), 'DONE' );

# Login by the other methods.
for my $method (qw(PLAIN LOGIN)) {
    my $x = connected( Authmechanism => $method );
    must( $x, $x->IsAuthenticated, $method );
    $x->logout;
}
my $wrong = Mail::IMAPClient->new( Server => $host, Port => $port, User => $user, Password => 'wrong',
    ( $ca ? ( Ssl => [ SSL_ca_file => $ca, SSL_verifycn_name => 'localhost' ] ) : () ) );
die "a wrong password was taken\n" if $wrong;

must( $c, $c->close, 'CLOSE' );
must( $c, $c->delete($_), "DELETE $_" ) for qw(Perl/z/b Perl/z Perl/copy);
$other->logout;
$c->logout;
print "all done\n";
