package words;

import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** How many words a text has, and how often each. */
final class Count {
    final int total;
    final Map<String, Long> words;

    private Count(Map<String, Long> words) {
        this.total = (int) words.values().stream().mapToLong(Long::longValue).sum();
        this.words = words;
    }

    static Count of(String text) {
        return new Count(Arrays.stream(text.toLowerCase(Locale.ROOT).split("[^\\p{L}\\p{N}]+"))
            .filter(word -> !word.isEmpty())
            .collect(Collectors.groupingBy(word -> word, TreeMap::new, Collectors.counting())));
    }
}
