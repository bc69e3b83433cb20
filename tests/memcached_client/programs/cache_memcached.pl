# Stores the keys of standard input. MODE is the namespace.
use strict;
use warnings;
use Cache::Memcached;

my ($namespace, @servers) = @ARGV;
my @weighted = map { /^(.*):(\d+)$/ ? [$1, $2] : die } @servers;
my %patience = (connect_timeout => 60, select_timeout => 60);
my $client = Cache::Memcached->new({ servers => \@weighted, namespace => $namespace, %patience });
while (my $key = <STDIN>) {
    chomp $key;
    $client->set($key, '1') or die "not stored: $key";
}
print 'done';
