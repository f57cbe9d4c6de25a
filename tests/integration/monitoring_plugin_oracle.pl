#!/usr/bin/perl
# Answers the questions of tests/unit/range_oracle.cpp by Debian's Monitoring::Plugin, and reads perfdata back.
# Lines with tabs on stdin: `RANGE VALUE` gives alert, ok or refused;
# `perfdata LABEL VALUE UNIT WARN CRIT` gives the entry or refused;
# `read PERFDATA .` gives `LABEL VALUE UNIT WARN CRIT` with tabs, or refused.
use strict;
use warnings;
use Monitoring::Plugin::Performance use_die => 1;
use Monitoring::Plugin::Range;
use Monitoring::Plugin::Threshold;

$SIG{__WARN__} = sub { };    # it carps about what it refuses

sub verdict {
    my ($text, $value) = @_;
    my $range = Monitoring::Plugin::Range->parse_range_string($text);
    return 'refused' unless defined $range;
    return $range->check_range($value) ? 'alert' : 'ok';
}

sub entry {
    my ($label, $value, $unit, $warn, $crit) = @_;
    my $threshold = eval {
        Monitoring::Plugin::Threshold->set_thresholds(warning => $warn, critical => $crit);
    };
    return 'refused' unless defined $threshold;
    return Monitoring::Plugin::Performance->new(
        label => $label, value => $value, uom => $unit, threshold => $threshold)->perfoutput;
}

sub read_back {
    my ($entry) = @_;
    my @read = Monitoring::Plugin::Performance->parse_perfstring($entry);
    return 'refused' unless @read == 1;
    my $p = $read[0];
    return join "\t", map { defined $_ ? $_ : '' }
        ($p->label, $p->value, $p->uom, $p->warning, $p->critical);
}

while (my $line = <STDIN>) {
    chomp $line;
    my @fields = split /\t/, $line, -1;
    if (@fields == 2)                 { print verdict(@fields), "\n" }
    elsif ($fields[0] eq 'perfdata')  { print entry(@fields[1 .. 5]), "\n" }
    else                              { print read_back($fields[1]), "\n" }
}
