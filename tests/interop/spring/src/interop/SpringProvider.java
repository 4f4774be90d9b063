package interop;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;

/** Spring Authorization Server with nothing but its defaults. */
@SpringBootApplication
public class SpringProvider {
    public static void main(String[] arguments) {
        SpringApplication.run(SpringProvider.class, arguments);
    }
}
