<?php

declare(strict_types=1);

namespace Clock;

use DateTimeImmutable;
use DateTimeZone;

/** What the clocks on the wall of an office say. */
final class Zones
{
    private const CITIES = [
        'Los Angeles' => 'America/Los_Angeles',
        'New York' => 'America/New_York',
        'Vienna' => 'Europe/Vienna',
        'Tokyo' => 'Asia/Tokyo',
    ];

    /** @return array<string, string> the time of every city at `$now` */
    public static function clocks(DateTimeImmutable $now): array
    {
        return array_map(
            fn (string $zone) => $now->setTimezone(new DateTimeZone($zone))->format('D H:i'),
            self::CITIES,
        );
    }
}
