package words;

import com.google.gson.Gson;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;

/** Counts the words of a text: a page that asks for one, and the answer as JSON. */
public final class Server {
    private static final String NAME = "java";
    private static final String VERSION = "1";

    private final Gson gson = new Gson();

    public static void main(String[] arguments) throws IOException {
        int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "8080"));
        HttpServer http = HttpServer.create(new InetSocketAddress("0.0.0.0", port), 0);
        http.setExecutor(Executors.newFixedThreadPool(16));
        new Server().addRoutes(http);
        http.start();
        System.out.println(NAME + " listens on port " + port);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> http.stop(5)));
    }

    private void addRoutes(HttpServer http) throws IOException {
        String index = resource("index.html").replace("{name}", NAME).replace("{version}", VERSION);
        String style = resource("style.css");
        http.createContext("/", exchange -> {
            if (exchange.getRequestURI().getPath().equals("/")) {
                answer(exchange, 200, "text/html; charset=utf-8", index);
            } else {
                answer(exchange, 404, "text/plain", "not found\n");
            }
        });
        http.createContext("/style.css", exchange -> answer(exchange, 200, "text/css", style));
        http.createContext("/health", exchange -> answer(exchange, 200, "text/plain", "ok\n"));
        http.createContext("/api/words", this::count);
    }

    private void count(HttpExchange exchange) throws IOException {
        if (!exchange.getRequestMethod().equals("POST")) {
            answer(exchange, 405, "text/plain", "POST a text\n");
            return;
        }
        String text = new String(exchange.getRequestBody().readNBytes(1 << 20), StandardCharsets.UTF_8);
        answer(exchange, 200, "application/json", gson.toJson(Count.of(text)) + "\n");
    }

    private static void answer(HttpExchange exchange, int status, String type, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", type);
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    private static String resource(String name) throws IOException {
        try (InputStream file = Server.class.getResourceAsStream("/web/" + name)) {
            return new String(file.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
