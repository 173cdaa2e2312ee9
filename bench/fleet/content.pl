#!/usr/bin/perl
# content.pl KIND SEED MIB TARGET makes what people keep on servers, always the
# same for the same seed.
#
#   log     lines of a web server's log, appended to the file TARGET
#   csv     a table of orders, in the file TARGET
#   json    a dump of documents, one a line, in the file TARGET
#   html    many pages of 1 to 400 KiB below the folder TARGET
#   txt     the same as plain text
use strict;
use warnings;

my ($kind, $seed, $mib, $target) = @ARGV;
srand($seed);
my $limit = $mib * 1048576;
my $done  = 0;

sub put { my ($file, $text) = @_; print $file $text; $done += length $text }
sub one { $_[int rand @_] }

# Words are as unevenly common as those of a language.
my @syllables = qw(an be cor del en fi gra har in jor kel lum mar nor ost pel qua ran ser tor un ver wil xen yar zen
	port data disk image backup table virtual cluster node);
my @words;
for (0 .. 5999) {
	my $word = '';
	$word .= one(@syllables) for 0 .. int(rand 3);
	push @words, $word;
}
sub word { $words[int(6000 * (rand() ** 3))] }

sub fresh_sentence {
	my $length = 5 + int rand 14;
	return ucfirst(join(' ', map { word() } 1 .. $length)) . (rand() < .1 ? '? ' : '. ');
}

# Half of what people write was written before.
my @pool = map { fresh_sentence() } 1 .. 4000;
sub sentence { rand() < .5 ? $pool[int(4000 * rand() ** 2)] : fresh_sentence() }

sub logs {
	open my $file, '>>', $target or die "$target: $!";
	my $time    = 1750000000;
	my @clients = map { join '.', map { int rand 256 } 1 .. 4 } 1 .. 3000;
	my @agents  = map { "Mozilla/5.0 (X11; $_) AppleWebKit/537.36 Chrome/12$_.0.0.0 Safari/537.36" } 0 .. 40;
	my @paths   = map { '/' . join('/', map { word() } 0 .. int rand 4) } 1 .. 5000;
	while ($done < $limit) {
		$time += int rand 3;
		my @at = gmtime $time;
		put($file, sprintf(qq{%s - - [%02d/Jun/2025:%02d:%02d:%02d +0000] "GET %s%s HTTP/1.1" %d %d "-" "%s"\n},
				$clients[int(3000 * rand() ** 2)], @at[3, 2, 1, 0], $paths[int(5000 * rand() ** 3)],
				(rand() < .3 ? '?id=' . int rand 1e6 : ''), one(200, 200, 200, 200, 304, 404, 301, 500),
				int rand 90000, $agents[int rand 41]));
	}
}

sub table {
	open my $file, '>', $target or die "$target: $!";
	put($file, "id,created,customer,amount,currency,status,comment,token\n");
	my ($row, $time) = (0, 1700000000);
	while ($done < $limit) {
		$row++;
		$time += int rand 40;
		put($file, join(',', $row, $time, int(rand 200000), sprintf('%.2f', rand 900), one(qw(EUR USD GBP)),
				one(qw(new paid shipped returned)), join(' ', map { word() } 1 .. 4),
				sprintf('%08x%08x', rand 2**32, rand 2**32)) . "\n");
	}
}

sub documents_dump {
	open my $file, '>', $target or die "$target: $!";
	my $row = 0;
	while ($done < $limit) {
		$row++;
		put($file, sprintf(qq({"_id":"%08x%08x","type":"%s","user":{"id":%d,"name":"%s %s"},"tags":["%s","%s"],"score":%.4f,"body":"%s"}\n),
				rand 2**32, $row, word(), rand 1e5, ucfirst word(), ucfirst word(), word(), word(), rand, sentence()));
	}
}

sub pages {
	my $number = 0;
	mkdir $target;
	while ($done < $limit) {
		my $folder = sprintf('%s/%02d', $target, $number % 40);
		mkdir $folder;
		open my $file, '>', sprintf('%s/%05d.%s', $folder, $number++, $kind) or die "$folder: $!";
		my $size = 1024 * exp(rand() * rand() * 6);
		put($file, qq{<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>} . word() . ' ' . word()
				. qq{</title>\n<link rel="stylesheet" href="/static/site.css"></head>\n<body class="page"><nav><ul>}
				. qq{<li><a href="/">Home</a></li><li><a href="/blog">Blog</a></li></ul></nav>\n}) if $kind eq 'html';
		for (my $written = 0; $written < $size;) {
			my $text = join('', map { sentence() } 1 .. 4);
			$text = $kind eq 'html' ? qq{<p class="text">$text</p>\n} : "$text\n\n";
			put($file, $text);
			$written += length $text;
		}
		put($file, "<footer>Copyright</footer></body></html>\n") if $kind eq 'html';
		close $file;
	}
}

my %makers = (log => \&logs, csv => \&table, json => \&documents_dump, html => \&pages, txt => \&pages);
my $make = $makers{$kind} or die "no such kind of content: $kind\n";
$make->();
